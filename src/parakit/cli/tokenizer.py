"""`parakit tokenizer`: train a tokenizer on your text, show the tokens of a text, compare tokenizers."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.rendering.arguments import parse_arguments, parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.remote import exists, is_remote, uploading
from parakit.common.settings import Config, Family, closest_match
from parakit.tokens.config import TokenizerConfig

if TYPE_CHECKING:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer


_COLORS = ("on dark_blue", "on dark_green", "on dark_magenta", "on dark_red", "on grey30")
_SOURCE_HELP = "A corpus or examples folder written by `parakit text`, or files and folders of text."
_MAX_COLORED = 2000


class TokenizerTrainCommandConfig(Config):
    """Train a tokenizer and write it as a folder that transformers can load too."""

    source: tyro.conf.Positional[tuple[str, ...]] = Field(description=_SOURCE_HELP)
    output: str = Field(description="The folder to write.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class TokenizerEncodeCommandConfig(Config):
    """Show the tokens of a text, or with --output encode a corpus for training."""

    tokenizer: tyro.conf.Positional[str] = Field(description="A tokenizer or model folder, or NAME:PATH.")
    text: tyro.conf.Positional[str | None] = Field(
        default=None,
        description="The text. Default: standard input. With --output: "
        "a folder of text, conversations or examples.",
    )
    output: str | None = Field(
        default=None,
        description="Write token shards of a corpus, of conversations or of examples to this folder.",
    )
    family: Family = Field(
        default="decoder", description="With --output: the family of the model that is trained on the shards."
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class TokenizerCompareCommandConfig(Config):
    """Tokens per word and bytes per token of several tokenizers on the same text."""

    tokenizers: tyro.conf.Positional[tuple[str, ...]] = Field(
        description="Tokenizer or model folders, or NAME:PATH for a published one, such as cl100k_base:DIR."
    )
    text: str | None = Field(default=None, description="The text. Default: --file, or else standard input.")
    file: str | None = Field(default=None, description="A UTF-8 text file.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit tokenizer train|encode|compare`; returns the exit status."""
    verbs: dict[str, tuple[Any, Callable[[Any], None]]] = {
        "encode": (TokenizerEncodeCommandConfig, _encode),
        "compare": (TokenizerCompareCommandConfig, _compare),
    }
    if not argv or argv[0] in ("-h", "--help"):
        kinds = {"train": TokenizerTrainCommandConfig} | {verb: config for verb, (config, _) in verbs.items()}
        lines = [f"  {verb:8} {(config.__doc__ or '').splitlines()[0]}" for verb, config in kinds.items()]
        print("\n".join(["usage: parakit tokenizer {train,encode,compare} ...", "", *lines]))
        return 0
    verb, *rest = argv
    if verb not in ("train", *verbs):
        close = closest_match(verb, ("train", *verbs))
        raise UserError(
            f"parakit tokenizer: unknown verb {verb!r}",
            f"did you mean {close!r}?" if close else f"verbs: train, {', '.join(verbs)}",
        )
    if verb == "train":
        _train(
            *parse_arguments(TokenizerTrainCommandConfig, TokenizerConfig, rest, "parakit tokenizer train")
        )
        return 0
    config, run = verbs[verb]
    command = parse_command(config, rest, f"parakit tokenizer {verb}")
    run(command)
    return 0


def _train(command: TokenizerTrainCommandConfig, config: TokenizerConfig) -> None:
    from parakit.stages.data import make_tokenizer

    if not command.source:
        raise UserError("no training text given", "name a corpus folder, or files and folders of text")
    is_corpus = len(command.source) == 1 and _is_artifact(command.source[0])
    kinds = ("corpus", "examples")
    source = open_artifact(command.source[0], kinds).path if is_corpus else command.source
    tokenizer = make_tokenizer(source, config, Path(command.output), command.overwrite)
    result = {"path": command.output, "kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
    result |= {"digest": tokenizer.digest, "special_tokens": tokenizer.special_tokens}
    if command.as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(f"{command.output}: {tokenizer.kind} tokenizer, {tokenizer.vocab_size:,} tokens")


def _is_artifact(source: str) -> bool:
    return exists(f"{source}/{LINEAGE}") if is_remote(source) else (Path(source) / LINEAGE).is_file()


def _encode(command: TokenizerEncodeCommandConfig) -> None:
    from parakit.tokens.tokenizer.comparison import token_pieces

    shards = Needs(
        ("family",), lambda command: command.output is not None, "it is of shards", "name --output"
    )
    refuse_inert(command, (shards, OVERWRITES))
    if command.output is not None:
        with uploading(command.output, command.overwrite) as folder:
            splits = _write_shards(command, Path(folder))
        if command.as_json:
            print(json.dumps({"path": command.output, "splits": splits}))
        else:
            print("\n".join(f"{command.output}: {name}, {_size(result)}" for name, result in splits.items()))
        return
    tokenizer = _load(command.tokenizer)
    text = sys.stdin.read() if command.text is None else command.text
    token_ids = tokenizer.encode(text)
    if command.as_json:
        tokens = [tokenizer.token(token_id) for token_id in token_ids]
        print(json.dumps({"token_ids": token_ids, "tokens": tokens}, ensure_ascii=False))
        return
    Console().print(_colored(token_pieces(tokenizer, text)))
    print(" ".join(map(str, token_ids)))
    print(f"{len(token_ids)} tokens, {len(text)} characters, {len(text.split())} words")


def _write_shards(command: TokenizerEncodeCommandConfig, out: Path) -> JsonObject:
    from parakit.stages.data import make_conversation_shards, make_example_shards, make_shards

    if command.text is None:
        raise UserError("--output needs a corpus", "name a folder written by `parakit text`")
    source = open_artifact(command.text, ("corpus", "conversations", "examples"))
    tokenizer, family = Path(command.tokenizer), command.family
    if source.kind == "examples":
        make_example_shards(source.path, tokenizer, out, family, command.overwrite)
    elif source.kind == "corpus":
        make_shards(source.path, tokenizer, out, command.overwrite, family)
    elif family != "decoder":
        raise UserError(f"conversations are for decoders, and --family is {family}", "remove --family")
    else:
        make_conversation_shards(source.path, tokenizer, out, command.overwrite)
    splits: JsonObject = open_artifact(out, verify=False).lineage["result"]
    return splits


def _size(result: dict[str, Any]) -> str:
    return f"{result['examples']:,} examples" if "examples" in result else f"{result['n_tokens']:,} tokens"


def _compare(command: TokenizerCompareCommandConfig) -> None:
    from parakit.tokens.tokenizer.comparison import compare_tokenizers, token_pieces

    if not command.tokenizers:
        raise UserError("no tokenizers given", "name two or more tokenizer folders")
    tokenizers = {name: _load(name) for name in command.tokenizers}
    text = _text_to_compare(command)
    figures = compare_tokenizers(tokenizers, [text])
    if command.as_json:
        print(json.dumps([dataclasses.asdict(row) for row in figures], ensure_ascii=False))
        return
    console = Console()
    headings = "tokenizer", "kind", "vocabulary", "tokens", "tokens per word", "bytes per token", "unknown"
    table = Table(*headings)
    for row in figures:
        per_word, per_token = f"{row.tokens_per_word:.2f}", f"{row.bytes_per_token:.2f}"
        numbers = f"{row.vocab_size:,}", f"{row.n_tokens:,}", per_word, per_token, f"{row.n_unknown:,}"
        table.add_row(Text(row.name), row.kind, *numbers)
    console.print(table)
    for name, tokenizer in tokenizers.items():
        console.print(Text(name, style="bold"))
        console.print(_colored(token_pieces(tokenizer, text[:_MAX_COLORED])))


def _text_to_compare(command: TokenizerCompareCommandConfig) -> str:
    if command.text is not None:
        if command.file is not None:
            raise UserError("both --text and --file were given", "give one of them")
        return command.text
    if command.file is None:
        return sys.stdin.read()
    path = Path(command.file)
    if not path.is_file():
        raise UserError(f"{path}: no such file", "give --file a UTF-8 text, or use --text")
    return path.read_bytes().decode("utf-8", "replace")


def _load(name: str) -> "Tokenizer":
    """A tokenizer folder, or NAME:PATH for a published vocabulary."""
    from parakit.tokens.importers.published import published_tokenizer
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    published, _, path = name.partition(":")
    if path and not os.path.exists(name):
        return published_tokenizer(path, published)
    return Tokenizer.load(name)


def _colored(pieces: list[tuple[int, str]]) -> Text:
    """Adjacent tokens in different colors."""
    text = Text()
    for number, (_, piece) in enumerate(pieces):
        text.append(piece.replace("\n", "⏎\n"), style=_COLORS[number % len(_COLORS)])
    return text
