"""Published byte-BPE vocabularies, from the files in which they were released.

GPT-2 was released as `encoder.json` and `vocab.bpe` (token names, and the merges in order); r50k, p50k, cl100k and o200k
as rank files: a line per token, its bytes in base64 and its rank, which is its id. The merges of a rank file are
recovered by encoding each token with the tokens before it. `.gz` copies are read too.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from itertools import pairwise
from pathlib import Path

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.settings import closest_match
from parakit.tokens.importers.tokenizer_json import added_token, byte_bpe_json
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, byte_alphabet
from parakit.tokens.tokenizer.special_tokens import SpecialTokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_END = "<|endoftext|>"
_FILL = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
# name -> rank file, splitting pattern, special tokens
_PUBLISHED: dict[str, tuple[str, str, dict[str, int]]] = {
    "gpt2": ("encoder.json", "gpt2", {_END: 50256}),
    "r50k_base": ("r50k_base.tiktoken", "gpt2", {_END: 50256}),
    "p50k_base": ("p50k_base.tiktoken", "gpt2", {_END: 50256}),
    "p50k_edit": (
        "p50k_base.tiktoken",
        "gpt2",
        {_END: 50256} | {token: 50281 + i for i, token in enumerate(_FILL)},
    ),
    "cl100k_base": (
        "cl100k_base.tiktoken",
        "three_digits",
        {_END: 100257} | {token: 100258 + i for i, token in enumerate(_FILL)} | {"<|endofprompt|>": 100276},
    ),
    "o200k_base": ("o200k_base.tiktoken", "case_aware", {_END: 199999, "<|endofprompt|>": 200018}),
}


def published_tokenizer(path: str | Path, name: str) -> Tokenizer:
    """The published tokenizer `name` (gpt2, r50k_base, p50k_base, p50k_edit, cl100k_base, o200k_base).

    `path` is the folder of its files, or the rank file itself.
    """
    if name not in _PUBLISHED:
        close = closest_match(name, _PUBLISHED)
        raise UserError(
            f"no published tokenizer is called {name!r}",
            f"did you mean {close!r}?" if close else f"known: {', '.join(_PUBLISHED)}",
        )
    file, pattern, special = _PUBLISHED[name]
    folder = Path(path)
    try:
        if name == "gpt2":
            vocabulary = json.loads(_read(folder, file))
            lines = _read(folder, "vocab.bpe").decode().splitlines()
            merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        else:
            vocabulary, merges = _from_ranks(_read(folder, file))
    except (ValueError, binascii.Error, zlib.error, EOFError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise CorruptArtifact(
            f"{folder}: the files of {name} cannot be read: {error}", "fetch them again"
        ) from None
    added = [added_token(token_id, token) for token, token_id in special.items()]
    converted = byte_bpe_json(vocabulary | special, merges, PATTERNS[pattern], added)
    text = json.dumps(converted, ensure_ascii=False)
    return Tokenizer(text, kind="byte_bpe", special=SpecialTokens({"bos": _END, "eos": _END}))


def _read(path: Path, name: str) -> bytes:
    candidates = [path] if path.is_file() else [path / name, path / f"{name}.gz"]
    for file in candidates:
        if file.is_file():
            data = file.read_bytes()
            return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    raise UserError(f"{path}: holds no {name} or {name}.gz", "point to the folder of the published files")


def _from_ranks(data: bytes) -> tuple[dict[str, int], list[list[str]]]:
    """Vocabulary in the byte alphabet and the merges, from a rank file's lines."""
    ranks = {}
    for line in data.splitlines():
        if line:
            encoded, number = line.split()
            ranks[base64.b64decode(encoded, validate=True)] = int(number)
    alphabet = byte_alphabet()
    written = {token: "".join([alphabet[byte] for byte in token]) for token in ranks}
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _encode_below(token, ranks, rank)
            if len(parts) != 2:
                raise ValueError(f"token {rank} is not the join of two earlier tokens")
            merges.append([written[part] for part in parts])
    return {written[token]: rank for token, rank in ranks.items()}, merges


def _encode_below(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    """Byte BPE of `token` by the merges whose rank is below `limit`."""
    parts = [token[i : i + 1] for i in range(len(token))]
    joins = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
    while len(parts) > 2 and (best := min(joins)) < limit:
        i = joins.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del joins[i]
        if i > 0:
            joins[i - 1] = ranks.get(parts[i - 1] + parts[i], limit)
        if i < len(joins):
            joins[i] = ranks.get(parts[i] + parts[i + 1], limit)
    return parts
