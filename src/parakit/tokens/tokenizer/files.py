"""Tokenizers on disk, in the layout of transformers: tokenizer.json, tokenizer_config.json,
special_tokens_map.json, chat_template.jinja, additional_chat_templates/NAME.jinja.

Reading executes nothing from the folder: `auto_map` is ignored, `tokenizer_class` is only a name, tokenizer.json is data,
and the chat template is only text here. A third-party folder without tokenizer.json is converted by `importers.folder`; a
PAD that equals EOS is dropped. `target_tokenizer.json`, which transformers does not know, is for a translator's outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, open_artifact, verify_manifest
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, apply_changes, read_json, write_json_atomic, write_text_atomic
from parakit.common.json_reading import parse_json
from parakit.tokens.importers.bounded_tokenizer import check_bounds
from parakit.tokens.importers.charsmap import check_normalizer
from parakit.tokens.importers.folder import LAYOUTS, convert_tokenizer, find_layout
from parakit.tokens.importers.special_strings import read_special_tokens
from parakit.tokens.importers.tokenizer_json import KNOWN_PATTERNS, complete_json, without_sampling
from parakit.tokens.importers.vocabulary_files import read_vocabulary_text
from parakit.tokens.tokenizer.fast_encoding import is_panic
from parakit.tokens.tokenizer.special_tokens import PURPOSES, SpecialTokens

_FILE, _CONFIG, _MAP, _TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
MAX_VALUES = 8_000_000  # of a vocabulary of a million tokens with scores or merges, and more
FETCH = "restore the file from a copy, or fetch it again"
_NAMED_TEMPLATES = "additional_chat_templates"
_CHAT_DATE = "parakit_chat_date"  # in tokenizer_config.json
_TARGET = "target_tokenizer.json"
_GENERATION, _MODEL = "generation_config.json", "config.json"
_READ = (_FILE, _CONFIG, _MAP, _TEMPLATE, _TARGET, _GENERATION, _MODEL)
_KINDS = {"WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}


# Settings that stay true of a tokenizer.json that was converted from other files.
_KEPT_OF_CONVERTED = frozenset(
    {
        *("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces"),
        *(f"{purpose}_token" for purpose in PURPOSES),
    }
)


@dataclass(frozen=True)
class PublishedTokenizer:
    """The settings of a loaded tokenizer as they were read, and what Parakit would have written in their place: a save
    repeats the former and changes what differs from the latter.
    """

    json: str
    config: JsonObject
    special_map: JsonObject | None
    written_config: JsonObject
    written_map: JsonObject
    is_converted: bool
    """The folder had no tokenizer.json."""
    stop_ids: tuple[int, ...] = ()
    """Every id that ends an output, by the settings of the model in the same folder."""

    def config_for(self, tokenizer_json: str, written: JsonObject) -> JsonObject:
        """tokenizer_config.json for a tokenizer that Parakit would describe by `written`. The publisher's class stays
        with the publisher's tokenizer.json; another one gets the class that takes it as it is.
        """
        published, before = self.config, self.written_config
        if self.is_converted:
            published = {key: value for key, value in published.items() if key in _KEPT_OF_CONVERTED}
        own_class = not self.is_converted and tokenizer_json == self.json and "tokenizer_class" in published
        before = before if own_class else before | {"tokenizer_class": None}
        if own_class or "model_input_names" in published:  # as published, or as its class has them
            before = before | {"model_input_names": written["model_input_names"]}
        else:
            before = before | {"model_input_names": None}
        if "chat_template" in published:  # files of their own
            published = {key: value for key, value in published.items() if key != "chat_template"}
        return apply_changes(published, before, written)


@dataclass(frozen=True)
class TokenizerFiles:
    """The content of a tokenizer folder; `source` is the path that error messages name."""

    json: str
    parsed: JsonObject
    """`json`, parsed: a large vocabulary takes a tenth of a second."""
    kind: str
    special: SpecialTokens
    chat_template: str | None
    named_templates: dict[str, str]
    chat_date: str | None
    target_json: str | None
    source: Path
    published: PublishedTokenizer

    @classmethod
    def read(cls, folder: Path) -> TokenizerFiles:
        """Read a tokenizer folder or a model folder. `UserError` when it holds no tokenizer, `CorruptArtifact` when it
        cannot be read.
        """
        if folder.is_file() and folder.name == _FILE:
            folder = folder.parent
        _require_tokenizer(folder)
        if (folder / LINEAGE).is_file():  # of a model, its weights are not read here
            is_model = open_artifact(folder, verify=False).kind == "model"
            verify_manifest(folder, _READ if is_model else None)
        config, special_map = _read_mapping(folder / _CONFIG), _read_mapping(folder / _MAP)
        settings: Mapping[str, Any] = config | special_map
        source, target_json = folder / _FILE, None
        if source.is_file():
            text = read_vocabulary_text(source)
            target_json = read_vocabulary_text(folder / _TARGET) if (folder / _TARGET).is_file() else None
        else:
            text, target_json, settings = convert_tokenizer(folder, settings)
            source = folder
        with corrupt_on_failure(source):
            is_own = "parakit_kind" in settings  # else written by somebody else, perhaps years ago
            text, parsed = _prepared(text, source, is_own)
            target_json = target_json and _prepared(target_json, source, is_own)[0]
            special = read_special_tokens(settings, _all_tokens(parsed))
            kind, templates = _kind(settings, parsed), _read_templates(folder, settings)
            chat_date = _read_chat_date(folder / _CONFIG, config)
        names = _names(special)
        published = PublishedTokenizer(
            json=text,
            config=config,
            special_map=special_map if (folder / _MAP).is_file() else None,
            written_config=_written_config(parsed, kind, names, token_types=False),
            written_map=names,
            is_converted=not (folder / _FILE).is_file(),
            stop_ids=_read_stop_ids(folder),
        )
        default = templates.pop("default", None)
        return cls(text, parsed, kind, special, default, templates, chat_date, target_json, source, published)


@contextmanager
def corrupt_on_failure(source: Path) -> Iterator[None]:
    """Turn any error but `UserError` into `CorruptArtifact`: tokenizers raises bare `Exception` for unreadable files."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "restore the file from a copy, or train the tokenizer again"
        raise CorruptArtifact(f"{source}: not readable as a tokenizer: {reason}", hint) from None


def _prepared(text: str, source: Path, is_own: bool) -> tuple[str, JsonObject]:
    """A checked tokenizer.json without sampling and, of another publisher, complete; as text and parsed."""
    checked = check_pipeline(text, source)
    parsed = without_sampling(checked)
    if not is_own:
        parsed = complete_json(parsed)
    return text if parsed is checked else json.dumps(parsed, ensure_ascii=False), parsed


def check_pipeline(text: str, source: Path) -> JsonObject:
    """A tokenizer.json, parsed; raises where it is no strict JSON, or could make the library crash, hang or fill the
    memory.
    """
    parsed = parse_json(text.encode("utf-8", "surrogatepass"), source, max_values=MAX_VALUES, hint=FETCH)
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise CorruptArtifact(f"{source}: is no tokenizer.json: it has no model", FETCH)
    check_normalizer(parsed.get("normalizer"))
    check_bounds(parsed, KNOWN_PATTERNS)
    return parsed


def write_tokenizer_files(
    folder: Path,
    *,
    tokenizer_json: str,
    target_json: str | None,
    kind: str,
    special: SpecialTokens,
    chat_template: str | None,
    token_types: bool,
    pad_with_eos: bool = False,
    published: PublishedTokenizer | None = None,
    named_templates: Mapping[str, str] | None = None,
    chat_date: str | None = None,
) -> None:
    """Write the files into an existing or new folder; other files in it stay. `pad_with_eos`: name EOS as PAD where there
    is none, for programs that pad batches with it. `published`: settings to keep. `chat_date`: the date that a chat
    template shows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = _names(special)
    config = _written_config(json.loads(tokenizer_json), kind, names, token_types)
    special_map: JsonObject | None = names
    if published is not None and (published.config or published.special_map):
        config = published.config_for(tokenizer_json, config)
        special_map = published.special_map
        if special_map is not None:
            special_map = apply_changes(special_map, published.written_map, names)
    if pad_with_eos and config.get("pad_token") is None and "eos_token" in names:
        config["pad_token"] = names["eos_token"]
    if chat_date is not None:
        config[_CHAT_DATE] = chat_date
    write_text_atomic(folder / _FILE, tokenizer_json)
    if target_json is not None:
        write_text_atomic(folder / _TARGET, target_json)
    if special_map is not None:
        write_json_atomic(folder / _MAP, special_map)
    write_json_atomic(folder / _CONFIG, config)
    if chat_template is not None:
        write_text_atomic(folder / _TEMPLATE, chat_template)
    for name, template in (named_templates or {}).items():
        (folder / _NAMED_TEMPLATES).mkdir(exist_ok=True)
        write_text_atomic(folder / _NAMED_TEMPLATES / f"{name}.jinja", template)


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a folder has the files of a tokenizer, Parakit's or third-party; the files are not checked."""
    return (Path(folder) / _FILE).is_file() or find_layout(Path(folder)) is not None


def _names(special: SpecialTokens) -> JsonObject:
    return {f"{purpose}_token": string for purpose, string in special.strings.items()}


def _written_config(parsed: JsonObject, kind: str, names: JsonObject, token_types: bool) -> JsonObject:
    """tokenizer_config.json as Parakit writes it for a tokenizer of its own."""
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in parsed.get("added_tokens", [])
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_input_names": [
            "input_ids",
            *(["token_type_ids"] if token_types else []),
            "attention_mask",
        ],
        "parakit_kind": kind,
        **names,
    }


def _require_tokenizer(folder: Path) -> None:
    if not has_tokenizer(folder):
        what = "no such folder" if not folder.exists() else "holds no tokenizer.json, so it is no tokenizer"
        known = "; ".join(" + ".join(names) for names in LAYOUTS)
        raise UserError(
            f"{folder}: {what}",
            "point to a folder that `parakit tokenizer train` wrote, or to a model folder with tokenizer.json, or "
            f"with the files of a known tokenizer: {known}",
        )


def _read_mapping(path: Path) -> JsonObject:
    loaded = read_json(path) if path.is_file() else {}
    if not isinstance(loaded, dict):
        raise CorruptArtifact(
            f"{path}: holds a {type(loaded).__name__}, not a mapping", "restore it from a copy"
        )
    return loaded


def _all_tokens(parsed: Mapping[str, Any]) -> set[str]:
    """Every token of a tokenizer.json as it is written."""
    vocabulary = parsed["model"]["vocab"]
    tokens = set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
    return tokens | {token["content"] for token in parsed.get("added_tokens") or []}


def _kind(settings: Mapping[str, Any], parsed: Mapping[str, Any]) -> str:
    if isinstance(settings.get("parakit_kind"), str):
        return settings["parakit_kind"]
    model = parsed["model"]["type"]
    if model == "BPE":
        decoder = (
            parsed.get("decoder") or {}
        )  # CLIP's bytes have a suffix at a word's end, so they are no plain bytes
        return "byte_bpe" if decoder.get("type") == "ByteLevel" else "bpe"
    return _KINDS.get(model, model.lower())


def read_chat_template(folder: str | Path) -> str | None:
    """The chat template in a folder's files; None without one."""
    folder = Path(folder)
    return _read_templates(folder, _read_mapping(folder / _CONFIG)).get("default")


def _read_templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name, as transformers finds them: those in files, else those in tokenizer_config.json, which has
    one or a list of several by name (for tools, for retrieval, and the default).
    """
    files = {"default": folder / _TEMPLATE} if (folder / _TEMPLATE).is_file() else {}
    files |= {path.stem: path for path in sorted((folder / _NAMED_TEMPLATES).glob("*.jinja"))}
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    inline = settings.get("chat_template")
    named = {"default": inline}
    if isinstance(inline, list):
        named = {str(one.get("name")): one.get("template") for one in inline if isinstance(one, dict)}
    elif isinstance(inline, dict):
        named = inline
    templates = {name: template for name, template in named.items() if isinstance(template, str)}
    for name in templates:
        if not re.fullmatch(r"[\w.-]{1,100}", name) or set(name) == {"."}:
            raise UserError(
                f"{folder / _CONFIG}: a chat template has the name {name!r:.120}, which is no file name",
                "name it with letters, digits, - and _",
            )
    return templates


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path}: not readable: {error}", FETCH) from None


def _read_chat_date(path: Path, config: Mapping[str, Any]) -> str | None:
    value = config.get(_CHAT_DATE)
    try:
        return None if value is None else date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise CorruptArtifact(f"{path}: {_CHAT_DATE} is {value!r:.60}, not a date", FETCH) from None


def _read_stop_ids(folder: Path) -> tuple[int, ...]:
    """Every id of `eos_token_id`, from generation_config.json, else from config.json: a model can have several."""
    for name in (_GENERATION, _MODEL):
        ids = _read_mapping(folder / name).get("eos_token_id")
        found = [i for i in (ids if isinstance(ids, list) else [ids]) if type(i) is int and i >= 0]
        if found:
            return tuple(found)
    return ()
