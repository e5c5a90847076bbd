"""Marian's folders (opus-mt): two sentencepiece models with one vocabulary.

`source.spm` tokenizes the inputs and `target.spm` the outputs; `vocab.json` maps the pieces of both to ids. Here each side
becomes a Unigram tokenizer over the whole vocabulary with its own model's scores; pieces of the other side only have a
score so low that they are chosen only for characters missing on this side. Not supported: Moses' punctuation normalizer
(a package that transformers uses where it is installed), and two separate vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject
from parakit.tokens.importers.sentencepiece_model import NORMAL, USER_DEFINED, read_sentencepiece
from parakit.tokens.importers.sentencepiece_tokenizer import sentencepiece_json
from parakit.tokens.importers.tokenizer_json import added_token, template_processing
from parakit.tokens.importers.vocabulary_files import read_vocabulary_json

FILES = ("source.spm", "target.spm", "vocab.json")
_OTHER_SIDE, _LONG_OTHER_SIDE = -1e5, -1e6


def marian_jsons(folder: Path, settings: Mapping[str, Any]) -> tuple[JsonObject, JsonObject | None]:
    """The tokenizer.json of the source side, and that of the target side where it differs."""
    if settings.get("separate_vocabs") or (folder / "target_vocab.json").is_file():
        raise UserError(
            f"{folder}: source and target have separate vocabularies, so an id would mean two pieces",
            "use a model with one vocab.json for both sides",
        )
    vocabulary = read_vocabulary_json(folder / "vocab.json")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise CorruptArtifact(f"{folder / 'vocab.json'}: its ids have gaps", "fetch the file again")
    source, target = (folder / name for name in FILES[:2])
    converted = _side(source, vocabulary)
    if source.read_bytes() == target.read_bytes():
        return converted, None
    return converted, _side(target, vocabulary)


def _side(path: Path, vocabulary: Mapping[str, int]) -> JsonObject:
    model = read_sentencepiece(path)
    converted = sentencepiece_json(model, str(path))
    if model.model != "unigram" or model.byte_fallback:
        raise UserError(
            f"{path}: its model is {model.model}{' with bytes' if model.byte_fallback else ''}, not unigram as Marian's",
            "use the model's tokenizer.json, if its publisher has one",
        )
    scores = {piece.piece: piece.score for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)}
    if 2 * len(scores.keys() & vocabulary.keys()) < len(scores):
        raise CorruptArtifact(
            f"{path}: most of its pieces are not in vocab.json, so they belong to different models",
            "fetch the folder again",
        )
    strings = [model.control(name) or default for name, default in (("eos", "</s>"), ("unk", "<unk>"))]
    if missing := [string for string in strings if string not in vocabulary]:
        raise CorruptArtifact(f"{path.parent / 'vocab.json'}: has no {missing[0]}", "fetch the file again")
    eos, unk = strings
    language_codes = [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]
    controls = sorted(
        vocabulary[token] for token in {*strings, *language_codes, "<pad>", "<s>"} & vocabulary.keys()
    )
    tokens_by_id = sorted(vocabulary, key=lambda token: vocabulary[token])
    special = set(controls)
    return converted | {
        "added_tokens": [added_token(i, tokens_by_id[i]) for i in controls],
        "post_processor": template_processing(f"A:0 {eos}:0", f"A:0 B:0 {eos}:0", vocabulary),
        "model": {
            "type": "Unigram",
            "unk_id": vocabulary[unk],
            "byte_fallback": False,
            "vocab": [
                [token, 0.0 if i in special else _score(token, scores)]
                for i, token in enumerate(tokens_by_id)
            ],
        },
    }


def _score(token: str, scores: Mapping[str, float]) -> float:
    return scores.get(token, _OTHER_SIDE if len(token) == 1 else _LONG_OTHER_SIDE)
