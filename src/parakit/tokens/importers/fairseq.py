"""Vocabularies whose ids are not sentencepiece's: fairseq's models (XLM-R, mBART, NLLB, M2M100), Pegasus, DeBERTa-v2.

fairseq puts `<s> <pad> </s> <unk>` first, so a piece's id is sentencepiece's plus one, then language codes and `<mask>`.
Pegasus puts 105 tokens first; M2M100 numbers the pieces by a vocab.json of its own. Here the pieces are put into that
order, after which the model is converted as every other sentencepiece model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens.importers.sentencepiece_model import CONTROL, UNKNOWN, SentencePiece, SentencePieceModel
from parakit.tokens.importers.vocabulary_files import folder_added_tokens, read_vocabulary_json

_MBART = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX "
    "ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
_MBART50 = (
    f"{_MBART} af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE "
    "sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"
)
_LANGUAGES = {"MBartTokenizer": _MBART, "MBart50Tokenizer": _MBART50}
_SOURCE_LANGUAGE = {
    "MBartTokenizer": "en_XX",
    "MBart50Tokenizer": "en_XX",
    "NllbTokenizer": "eng_Latn",
    "M2M100Tokenizer": "en",
}
_PEGASUS_OFFSET, _MAX_OFFSET = 103, 10_000
# Special tokens around one text and two: purposes and the language's code, the texts A and B, each with its token type.
AROUND = {
    "XLMRobertaTokenizer": ("cls:0 A:0 sep:0", "cls:0 A:0 sep:0 sep:0 B:0 sep:0"),
    "MBartTokenizer": ("A:0 eos:0 language:0", "A:0 B:0 eos:0 language:0"),
    "MBart50Tokenizer": ("language:0 A:0 eos:0", "language:0 A:0 B:0 eos:0"),
    "NllbTokenizer": ("language:0 A:0 eos:0", "language:0 A:0 B:0 eos:0"),
    "M2M100Tokenizer": ("language:0 A:0 eos:0", "language:0 A:0 B:0 eos:0"),
    "PegasusTokenizer": ("A:0 eos:0", "A:0 B:0 eos:0"),
    "DebertaV2Tokenizer": ("cls:0 A:0 sep:0", "cls:0 A:0 sep:0 B:1 sep:1"),
}


def renumber(
    model: SentencePieceModel, kind: str, folder: Path, settings: Mapping[str, Any]
) -> SentencePieceModel:
    """`model` with its pieces at the ids that the tokenizer class `kind` gives them."""
    pieces = model.pieces
    if kind == "DebertaV2Tokenizer":
        mask = [] if any(piece.piece == "[MASK]" for piece in pieces) else [_control("[MASK]")]
        return _with_pieces(model, [*pieces, *mask], folder)
    if kind == "PegasusTokenizer":
        offset = settings.get("offset", _PEGASUS_OFFSET)
        if not isinstance(offset, int) or not 0 <= offset <= _MAX_OFFSET:
            raise CorruptArtifact(
                f"{folder / 'tokenizer_config.json'}: offset is {offset!r}", "fetch it again"
            )
        strings = ["<pad>", "</s>"] + (["<mask_1>", "<mask_2>"] if offset else [])
        strings += [f"<unk_{i}>" for i in range(2, offset)]
        return _with_pieces(model, [*map(_control, strings), *pieces[2:]], folder)
    if {piece.piece for piece in pieces[:3]} != {"<unk>", "<s>", "</s>"}:
        raise CorruptArtifact(
            f"{folder}: its sentencepiece model does not begin with <unk> <s> </s>, as that of a {kind} does",
            "the folder is named as another tokenizer: use its tokenizer.json",
        )
    if kind == "M2M100Tokenizer":
        return _with_pieces(model, [*_listed(model, folder), *_codes(kind, folder, settings)], folder)
    first = [_control("<s>"), _control("<pad>"), _control("</s>"), SentencePiece("<unk>", 0.0, UNKNOWN)]
    codes = [] if kind == "XLMRobertaTokenizer" else _codes(kind, folder, settings)
    return _with_pieces(model, [*first, *pieces[3:], *codes, _control("<mask>")], folder)


def language_code(kind: str, settings: Mapping[str, Any]) -> str | None:
    """The control token of the source language, where the tokenizer class has one: `src_lang`, else English."""
    default = _SOURCE_LANGUAGE.get(kind)
    if default is None:
        return None
    language = settings.get("src_lang") or default
    return f"__{language}__" if kind == "M2M100Tokenizer" else str(language)


def templates(kind: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """The special tokens around one text and two, as purposes."""
    legacy = kind == "NllbTokenizer" and settings.get("legacy_behaviour")
    return AROUND["MBartTokenizer" if legacy else kind]


def _control(string: str) -> SentencePiece:
    return SentencePiece(string, 0.0, CONTROL)


def _listed(model: SentencePieceModel, folder: Path) -> list[SentencePiece]:
    """The pieces at the ids of vocab.json. What sentencepiece has and the list lacks is not used."""
    path = folder / "vocab.json"
    vocabulary = read_vocabulary_json(path)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CorruptArtifact(f"{path}: its ids have gaps", "fetch the file again")
    pieces = {piece.piece: piece for piece in model.pieces}
    n_known = len(pieces.keys() & vocabulary.keys())
    if 2 * n_known < len(pieces) or "<unk>" not in vocabulary:
        raise CorruptArtifact(
            f"{path}: lists {n_known} of the {len(pieces)} pieces of the sentencepiece model",
            "the files belong to different models: fetch the folder again",
        )
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    return [pieces.get(token, _control(token)) for token in tokens]


def _codes(kind: str, folder: Path, settings: Mapping[str, Any]) -> list[SentencePiece]:
    """The control tokens of the languages, in the order of their ids."""
    named = settings.get("additional_special_tokens") or settings.get("extra_special_tokens")
    if not named:
        skipped = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}
        named = [token["content"] for token in folder_added_tokens(folder, settings)]
        named = [string for string in named if string not in skipped]
    found = [code.get("content") if isinstance(code, dict) else code for code in named or ()]
    codes = [code for code in found if isinstance(code, str)]
    known = _LANGUAGES.get(kind, "").split()
    codes = codes if len(codes) >= len(known) else known
    if not codes or len(codes) < len(found):
        raise UserError(
            f"{folder}: names no language codes, whose ids a {kind} needs",
            "fetch special_tokens_map.json or tokenizer.json, too",
        )
    code = language_code(kind, settings)
    if code not in codes:
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: src_lang {code!r} is no language of this tokenizer",
            f"it has {', '.join(codes[:5])}, ...",
        )
    return [_control(code) for code in codes]


def _with_pieces(model: SentencePieceModel, pieces: list[SentencePiece], folder: Path) -> SentencePieceModel:
    strings = [piece.piece for piece in pieces]
    ids = {string: i for i, string in enumerate(strings)}
    if len(ids) != len(strings):
        twice = next(string for string in strings if strings.count(string) > 1)
        raise CorruptArtifact(
            f"{folder}: {twice!r} is a piece and a special token", "use the model's tokenizer.json"
        )
    unk = next(i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN)
    return replace(model, pieces=tuple(pieces), ids=model.ids | {"unk": unk})
