"""Damaged files of rows: bytes changed, cut, repeated and put in, in every format and for every reader.

A damaged file is read or refused with a `UserError`; any other exception is a fault. `python -m tests.attacks.row_files
--n 5000 --seed 1` damages as many files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.conversations.conversation import read_conversations
from parakit.data.examples.readers import read_examples
from parakit.data.preferences import read_preferences
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.row_report import RowReport

_CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
_TALK = {"messages": [{"role": "user", "content": "Où?"}, _CALL], "tools": [{"name": "f"}]}
KINDS: dict[str, tuple[dict[str, Any], Callable[[Path], list[Any]]]] = {
    "conversations": (_TALK, lambda path: list(read_conversations(path))),
    "preferences": (
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?", "margin": 1},
        lambda path: list(read_preferences(path, RowReport())),
    ),
    "examples": (
        {"question": "Where?", "context": "There.", "answers": ["There"]},
        lambda path: list(read_examples(path, "answer")),
    ),
    "documents": (
        {"text": "Not bad, été.", "url": "x"},
        lambda path: list(read_documents(TextConfig(paths=(str(path),)), ReadReport())),
    ),
}
_SUFFIXES = ("jsonl", "json", "jsonl.gz", "json.gz")
_PIECES = (b"\0", b"\r", b"\n", b"\xff", b"\xed\xa0\x80", b"{", b"[", b"]", b'"', b"\\ud800", b"NaN", b"1e999", b"null",
           b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b"\xef\xbb\xbf", b"\xff\xfe", b",", b":")  # fmt: skip


def whole_file(row: dict[str, Any], suffix: str, n_rows: int) -> bytes:
    """A valid file before compression."""
    rows = [row] * n_rows
    if suffix.startswith("jsonl"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return json.dumps(rows, indent=1).encode()


def damage(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four places changed."""
    for _ in range(rng.randint(1, 4)):
        at, end = rng.randint(0, len(data)), rng.randint(0, len(data))
        way = rng.randrange(5)
        if way == 0:
            data = data[:at] + rng.choice(_PIECES) + data[at:]
        elif way == 1:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif way == 2:
            data = data[: max(at, 1)]
        elif way == 3:
            data = data[: min(at, end)] + data[max(at, end) :]
        else:
            data = data[:at] + data[min(at, end) : max(at, end)] + data[at:]
    return data


def attack(rng: random.Random, folder: Path) -> str:
    """Damage one file and read it; whether it was read or refused."""
    kind, suffix = rng.choice(list(KINDS)), rng.choice(_SUFFIXES)
    row, read = KINDS[kind]
    data = whole_file(row, suffix, rng.randint(1, 5))
    is_gzipped, outside = suffix.endswith(".gz"), rng.random() < 0.5
    data = data if is_gzipped and outside else damage(data, rng)
    data = gzip.compress(data, 1) if is_gzipped else data
    path = folder / f"rows.{suffix}"
    path.write_bytes(damage(data, rng) if is_gzipped and outside else data)
    try:
        read(path)
    except UserError as error:
        if not error.hint:
            raise RuntimeError(f"no way out: {error}") from error
        return "refused"
    return "read"


def main() -> None:
    """Damage `--n` files and print how many of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.n):
            try:
                counts[attack(rng, Path(folder))] += 1
            except Exception as error:
                raise SystemExit(f"file {number} of seed {options.seed}: {error!r}") from error
    print(f"{options.n:,} damaged files, 0 other errors: {dict(counts)}")


if __name__ == "__main__":
    main()
