"""Tokenizers on disk, in the layout of transformers: tokenizer.json, tokenizer_config.json,
special_tokens_map.json, chat_template.jinja.

Reading runs nothing that the folder holds: `tokenizer_class` and `auto_map` are ignored, tokenizer.json is
data, and the chat template is only text here. A foreign folder whose PAD is its EOS is read as having no PAD.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, verify_manifest
from parakit.common.errors import DamagedArtifact, UserError
from parakit.common.files import read_json, write_json_atomic, write_text_atomic
from parakit.tokens.special_tokens import PURPOSES, TURN_MARKERS, SpecialTokens
from parakit.tokens.tokenizer import Tokenizer

_FILE, _CONFIG, _MAP, _TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_KINDS = {"WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the four files into an existing or new folder; other files in it stay."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{purpose}_token": form for purpose, form in tokenizer.special.forms.items()}
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer.description.get("added_tokens", [])
    }
    write_text_atomic(folder / _FILE, tokenizer.json)
    write_json_atomic(folder / _MAP, names)
    write_json_atomic(
        folder / _CONFIG,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": added,
            "clean_up_tokenization_spaces": False,
            "parakit_kind": tokenizer.kind,
            **names,
        },
    )
    if tokenizer.chat_template is not None:
        write_text_atomic(folder / _TEMPLATE, tokenizer.chat_template)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer folder or a model folder. `UserError` when it holds none, `DamagedArtifact` when it
    cannot be read.
    """
    if folder.is_file() and folder.name == _FILE:
        folder = folder.parent
    if not (folder / _FILE).is_file():
        what = "no such folder" if not folder.exists() else f"holds no {_FILE}, so it is no tokenizer"
        raise UserError(
            f"{folder}: {what}",
            "point to a folder that `parakit tokenizer train` wrote, or to a model folder",
        )
    if (folder / LINEAGE).is_file() and read_json(folder / LINEAGE).get("kind") == "tokenizer":
        verify_manifest(folder)
    settings = _mapping(folder / _CONFIG) | _mapping(folder / _MAP)
    try:
        text = (folder / _FILE).read_text(encoding="utf-8")
        description = json.loads(text)
        special = _special_tokens(settings, description)
        return Tokenizer(
            text,
            kind=_kind(settings, description),
            special=special,
            chat_template=_template(folder, settings),
        )
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "restore the file from a copy, or train the tokenizer again"
        raise DamagedArtifact(f"{folder / _FILE}: not readable as a tokenizer: {reason}", hint) from None


def _mapping(path: Path) -> dict[str, Any]:
    loaded = read_json(path) if path.is_file() else {}
    if not isinstance(loaded, dict):
        raise DamagedArtifact(
            f"{path}: holds a {type(loaded).__name__}, not a mapping", "restore it from a copy"
        )
    return loaded


def _special_tokens(settings: dict[str, Any], description: dict[str, Any]) -> SpecialTokens:
    """Which token serves which purpose. A name that is not in the vocabulary counts as absent."""
    known = {token["content"] for token in description.get("added_tokens") or []}
    vocabulary = description["model"]["vocab"]
    known |= set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    forms = {}
    for purpose in PURPOSES:
        value = settings.get(f"{purpose}_token")
        form = value.get("content") if isinstance(value, dict) else value
        if isinstance(form, str) and form in known:
            forms[purpose] = form
    if forms.get("pad") is not None and forms.get("pad") == forms.get("eos"):
        del forms["pad"]
    turns = TURN_MARKERS if set(TURN_MARKERS.values()) <= known else {}
    return SpecialTokens(forms, turns)


def _kind(settings: dict[str, Any], description: dict[str, Any]) -> str:
    if isinstance(settings.get("parakit_kind"), str):
        return settings["parakit_kind"]
    model = description["model"]["type"]
    if model == "BPE":
        decoder = description.get("decoder") or {}
        return "byte_bpe" if decoder.get("type") == "ByteLevel" else "bpe"
    return _KINDS.get(model, model.lower())


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8")
    inline = settings.get("chat_template")
    return inline if isinstance(inline, str) else None
