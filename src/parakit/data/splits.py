"""Train, validation and test by the digest of a document, question or prompt.

A split depends on the digest and the two fractions alone: adding, removing or reordering other items never moves one, so
held-out items stay held out as a corpus grows. Validation grows from the low end of the digests and test from the high
end: a larger fraction only takes items from train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError

SPLITS = ("train", "validation", "test")


def split_of(digest: str, validation_fraction: float, test_fraction: float) -> str:
    """`train`, `validation` or `test` for a sha256 digest in hexadecimal."""
    position = int(digest[:13], 16) / 2**52  # 13 hexadecimal digits are exact in a double; in [0, 1)
    if position < validation_fraction:
        return "validation"
    return "test" if position >= 1 - test_fraction else "train"


@contextmanager
def writing_splits(folder: Path, splits: Sequence[str] = SPLITS) -> Iterator[dict[str, IO[str]]]:
    """Open one JSON-lines file for each split in `folder`."""
    with ExitStack() as stack:
        yield {
            split: stack.enter_context(open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n"))
            for split in splits
        }


def split_path(path: str | Path, kind: str, split: str, splits: Sequence[str] = SPLITS) -> Path:
    """The JSON-lines file of one split of an artifact folder of `kind`. `UserError` for an unknown split."""
    if split not in splits:
        raise UserError(f"{split!r} is not a split", f"splits are {', '.join(splits)}")
    return open_artifact(path, kind).path / f"{split}.jsonl"
