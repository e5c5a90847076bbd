"""A model folder without a tokenizer.json: the files that its tokenizer is made of, turned into one.

Which files lie there says which family it is, and the class named in tokenizer_config.json confirms or refuses it.
The result is a `Tokenizer` like any other; saved, it is a tokenizer.json that every engine reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens.importers import marian
from parakit.tokens.importers.description import added_token, frame
from parakit.tokens.importers.sentencepiece_model import read_sentencepiece
from parakit.tokens.importers.sentencepiece_tokenizer import sentencepiece_description
from parakit.tokens.importers.special_strings import special_tokens, tokenizer_class
from parakit.tokens.importers.vocabulary_files import (
    byte_bpe_folder,
    folder_added_tokens,
    wordpiece_description,
)
from parakit.tokens.tokenizer.special_tokens import SENTINEL

# The files of one tokenizer -> the class whose tokenizer it is when the folder names none.
LAYOUTS: dict[tuple[str, ...], str] = {
    marian.FILES: "MarianTokenizer",
    ("spiece.model",): "T5Tokenizer",
    ("tokenizer.model",): "LlamaTokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("vocab.json", "merges.txt"): "GPT2Tokenizer",
}
_SENTENCEPIECE_CLASSES = {"T5Tokenizer", "LlamaTokenizer"}
_T5_SENTINELS, _MAX_SENTINELS = 100, 1000
_UNNAMED = (None, "PreTrainedTokenizer", "TokenizersBackend")


def layout(folder: Path) -> tuple[str, ...] | None:
    """The files of a tokenizer that lie in `folder`, tokenizer.json aside; None where there is none."""
    return next((names for names in LAYOUTS if all((folder / name).is_file() for name in names)), None)


def convert_tokenizer(folder: Path, settings: Mapping[str, Any]) -> tuple[str, str | None, Mapping[str, Any]]:
    """The tokenizer.json made from the files of `folder`, that of the target side where a translator has two, and the
    settings with the class filled in. `settings` is tokenizer_config.json.

    Raises `UserError` saying why a tokenizer cannot be kept as it is, `CorruptArtifact` naming a file.
    """
    names = layout(folder)
    assert names is not None, "layout() says whether there is a tokenizer"
    if tokenizer_class(settings) in _UNNAMED and names != ("vocab.json", "merges.txt"):
        settings = {**settings, "tokenizer_class": LAYOUTS[names]}
    target = None
    if names == marian.FILES:
        described, target = marian.marian_descriptions(folder, settings)
    elif names == ("vocab.txt",):
        described = wordpiece_description(folder, settings)
    elif names == ("vocab.json", "merges.txt"):
        described, settings = byte_bpe_folder(folder, settings)
    else:
        described = _sentencepiece(folder, names[0], settings)
    text = json.dumps(described, ensure_ascii=False)
    return text, None if target is None else json.dumps(target, ensure_ascii=False), settings


def _sentencepiece(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """T5's spiece.model, or Llama's tokenizer.model, with what each family adds to it."""
    path, kind = folder / name, tokenizer_class(settings)
    if kind not in _SENTENCEPIECE_CLASSES:
        raise UserError(
            f"{path}: belongs to a {kind}, and which ids that one gives the pieces is not known here",
            f"take the model's tokenizer.json, if its publisher has one; read without one: "
            f"{', '.join(sorted(_SENTENCEPIECE_CLASSES))}",
        )
    model = read_sentencepiece(path)
    described = sentencepiece_description(model, str(path))
    forms = {piece.piece: i for i, piece in enumerate(model.pieces)}
    tokens = {token["id"]: token for token in described["added_tokens"]}
    for token in folder_added_tokens(folder, settings):
        i, form = token["id"], token["content"]
        if forms.setdefault(form, i) != i or (i < len(model.pieces) and model.pieces[i].piece != form):
            raise UserError(
                f"{folder}: the added token {form!r} has id {i}, and {path.name} has another token there",
                "the files are of different tokenizers: take the model's tokenizer.json",
            )
        tokens[i] = token
    if kind == "T5Tokenizer" and SENTINEL.format(0) not in forms:
        n = settings.get("extra_ids", _T5_SENTINELS)
        if not isinstance(n, int) or not 0 <= n <= _MAX_SENTINELS:
            raise CorruptArtifact(f"{folder / 'tokenizer_config.json'}: extra_ids is {n!r}", "fetch it again")
        for i in range(n):  # the last sentinel comes first
            tokens[len(forms)] = added_token(len(forms), SENTINEL.format(n - 1 - i))
            forms[SENTINEL.format(n - 1 - i)] = len(forms)
    described["added_tokens"] = [tokens[i] for i in sorted(tokens)]
    named = special_tokens(settings, forms).strings
    described["post_processor"] = _frame(kind, named, forms, settings)
    return described


def _frame(
    kind: str | None, named: Mapping[str, str], forms: Mapping[str, int], settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """T5 closes each text with EOS; Llama opens it with BOS, and closes it where its settings say so."""
    defaults = {"bos": kind == "LlamaTokenizer", "eos": kind == "T5Tokenizer"}
    wanted = {name: settings.get(f"add_{name}_token", default) for name, default in defaults.items()}
    bos, eos = (named.get(name) if wanted[name] else None for name in ("bos", "eos"))
    if bos is None and eos is None:
        return None
    second = 1 if kind == "LlamaTokenizer" else 0

    def around(name: str, token_type: int) -> str:
        return " ".join(f"{word}:{token_type}" for word in (bos, name, eos) if word is not None)

    return frame(around("A", 0), f"{around('A', 0)} {around('B', second)}", forms)
