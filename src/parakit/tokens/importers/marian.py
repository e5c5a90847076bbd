"""Marian's folders (opus-mt): two sentencepiece models, and one vocabulary that numbers the pieces of both.

`source.spm` cuts what is read and `target.spm` what is written; `vocab.json` says the id of a piece, whichever model
made it. Here each side becomes a Unigram tokenizer over the whole vocabulary with its own model's scores; pieces of
the other side alone cost so much that they are chosen only for characters that this side cannot spell. Left out:
Moses' punctuation normaliser (a package that transformers uses where it is installed), and two separate vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.tokens.importers.description import added_token, frame
from parakit.tokens.importers.sentencepiece_model import NORMAL, USER_DEFINED, read_sentencepiece
from parakit.tokens.importers.sentencepiece_tokenizer import sentencepiece_description
from parakit.tokens.importers.vocabulary_files import read_vocabulary_json

FILES = ("source.spm", "target.spm", "vocab.json")
_OTHER_SIDE, _LONG_OTHER_SIDE = -1e5, -1e6


def marian_descriptions(
    folder: Path, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The tokenizer.json of the source side, and that of the target side where it differs."""
    if settings.get("separate_vocabs") or (folder / "target_vocab.json").is_file():
        raise UserError(
            f"{folder}: source and target have vocabularies of their own, and one id would mean two pieces",
            "take a model with one vocab.json for both sides",
        )
    vocabulary = read_vocabulary_json(folder / "vocab.json")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CorruptArtifact(f"{folder / 'vocab.json'}: its ids leave gaps", "fetch the file again")
    source, target = (folder / name for name in FILES[:2])
    described = _side(source, vocabulary)
    if source.read_bytes() == target.read_bytes():
        return described, None
    return described, _side(target, vocabulary)


def _side(path: Path, vocabulary: Mapping[str, int]) -> dict[str, Any]:
    model = read_sentencepiece(path)
    described = sentencepiece_description(model, str(path))
    if model.model != "unigram" or model.byte_fallback:
        raise UserError(
            f"{path}: its model is {model.model}{' with bytes' if model.byte_fallback else ''}, and Marian's is unigram",
            "take the model's tokenizer.json, if its publisher has one",
        )
    scores = {piece.piece: piece.score for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)}
    if 2 * len(scores.keys() & vocabulary.keys()) < len(scores):
        raise CorruptArtifact(
            f"{path}: most of its pieces are not in vocab.json, so they are of different models",
            "fetch the folder again",
        )
    forms = [model.control(name) or default for name, default in (("eos", "</s>"), ("unk", "<unk>"))]
    if missing := [form for form in forms if form not in vocabulary]:
        raise CorruptArtifact(f"{path.parent / 'vocab.json'}: has no {missing[0]}", "fetch the file again")
    eos, unk = forms
    codes = [form for form in vocabulary if form.startswith(">>") and form.endswith("<<")]
    controls = sorted(vocabulary[form] for form in {*forms, *codes, "<pad>", "<s>"} & vocabulary.keys())
    forms_by_id = sorted(vocabulary, key=lambda form: vocabulary[form])
    special = set(controls)
    return described | {
        "added_tokens": [added_token(i, forms_by_id[i]) for i in controls],
        "post_processor": frame(f"A:0 {eos}:0", f"A:0 B:0 {eos}:0", vocabulary),
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary[unk],
            "byte_fallback": False,
            "vocab": [
                [form, 0.0 if i in special else _score(form, scores)] for i, form in enumerate(forms_by_id)
            ],
        },
    }


def _score(form: str, scores: Mapping[str, float]) -> float:
    return scores.get(form, _OTHER_SIDE if len(form) == 1 else _LONG_OTHER_SIDE)
