"""Tokenizers on disk, in the layout of transformers: tokenizer.json, tokenizer_config.json,
special_tokens_map.json, chat_template.jinja.

Reading runs nothing that the folder holds: `auto_map` is ignored, `tokenizer_class` is only a name, tokenizer.json
is data, and the chat template is only text here. A foreign folder without tokenizer.json is read by `foreign.folder`;
one whose PAD is its EOS is read as having no PAD. `target_tokenizer.json`, which transformers does not know, cuts
what a translator writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, verify_manifest
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import read_json, write_json_atomic, write_text_atomic
from parakit.tokens.importers.charsmap import check_normalizer
from parakit.tokens.importers.folder import LAYOUTS, convert_tokenizer, layout
from parakit.tokens.importers.special_strings import special_tokens
from parakit.tokens.importers.vocabulary_files import read_vocabulary_text
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_FILE, _CONFIG, _MAP, _TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_TARGET = "target_tokenizer.json"
_KINDS = {"WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}


def save_tokenizer(tokenizer: Tokenizer, folder: Path, token_types: bool = False) -> None:
    """Write the files into an existing or new folder; other files in it stay."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{purpose}_token": form for purpose, form in tokenizer.special.strings.items()}
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer.description.get("added_tokens", [])
    }
    write_text_atomic(folder / _FILE, tokenizer.json)
    if tokenizer.target_json is not None:
        write_text_atomic(folder / _TARGET, tokenizer.target_json)
    write_json_atomic(folder / _MAP, names)
    write_json_atomic(
        folder / _CONFIG,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": added,
            "clean_up_tokenization_spaces": False,
            "model_input_names": [
                "input_ids",
                *(["token_type_ids"] if token_types else []),
                "attention_mask",
            ],
            "parakit_kind": tokenizer.kind,
            **names,
        },
    )
    if tokenizer.chat_template is not None:
        write_text_atomic(folder / _TEMPLATE, tokenizer.chat_template)


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has the files of a tokenizer, ours or foreign. Says nothing about whether they are sound."""
    return (Path(folder) / _FILE).is_file() or layout(Path(folder)) is not None


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a tokenizer folder or a model folder. `UserError` when it holds none, `CorruptArtifact` when it
    cannot be read.
    """
    if folder.is_file() and folder.name == _FILE:
        folder = folder.parent
    if not has_tokenizer(folder):
        what = "no such folder" if not folder.exists() else "holds no tokenizer.json, so it is no tokenizer"
        known = "; ".join(" + ".join(names) for names in LAYOUTS)
        raise UserError(
            f"{folder}: {what}",
            "point to a folder that `parakit tokenizer train` wrote, or to a model folder with tokenizer.json, or "
            f"with the files of a known tokenizer: {known}",
        )
    if (folder / LINEAGE).is_file() and read_json(folder / LINEAGE).get("kind") == "tokenizer":
        verify_manifest(folder)
    settings: Mapping[str, Any] = _mapping(folder / _CONFIG) | _mapping(folder / _MAP)
    source, target_json = folder / _FILE, None
    if source.is_file():
        text = read_vocabulary_text(source)
        target_json = read_vocabulary_text(folder / _TARGET) if (folder / _TARGET).is_file() else None
    else:
        text, target_json, settings = convert_tokenizer(folder, settings)
        source = folder
    try:
        return _made(text, target_json, settings, _template(folder, settings))
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "restore the file from a copy, or train the tokenizer again"
        raise CorruptArtifact(f"{source}: not readable as a tokenizer: {reason}", hint) from None


def _made(
    text: str, target_json: str | None, settings: Mapping[str, Any], chat_template: str | None
) -> Tokenizer:
    description = json.loads(text)
    for normalizer in (description, json.loads(target_json) if target_json else {}):
        check_normalizer(normalizer.get("normalizer"))
    tokenizer = Tokenizer(
        text,
        kind=_kind(settings, description),
        special=special_tokens(settings, _forms(description)),
        chat_template=chat_template,
        target_json=target_json,
    )
    for token in description.get("added_tokens") or []:
        if tokenizer.token_id(token["content"]) != token["id"]:
            raise ValueError(f"the added token {token['content']!r} cannot have the id {token['id']}")
    return tokenizer


def _mapping(path: Path) -> dict[str, Any]:
    loaded = read_json(path) if path.is_file() else {}
    if not isinstance(loaded, dict):
        raise CorruptArtifact(
            f"{path}: holds a {type(loaded).__name__}, not a mapping", "restore it from a copy"
        )
    return loaded


def _forms(description: Mapping[str, Any]) -> set[str]:
    """Every token of a tokenizer.json as it is written."""
    vocabulary = description["model"]["vocab"]
    forms = set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    return forms | {token["content"] for token in description.get("added_tokens") or []}


def _kind(settings: Mapping[str, Any], description: Mapping[str, Any]) -> str:
    if isinstance(settings.get("parakit_kind"), str):
        return settings["parakit_kind"]
    model = description["model"]["type"]
    if model == "BPE":
        decoder = description.get("decoder") or {}
        return "byte_bpe" if decoder.get("type") == "ByteLevel" else "bpe"
    return _KINDS.get(model, model.lower())


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8")
    inline = settings.get("chat_template")
    return inline if isinstance(inline, str) else None
