"""Parts of the file that holds the documents of a corpus before they are split: ranges of whole rows.

Parts follow from the file alone, not from the number of workers, so that a run resumes with another number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

PART_BYTES = 16 * 2**20


@dataclass(frozen=True)
class RowParts:
    """`ends`: where the parts begin and end, in bytes, (n + 1); `firsts`: the number of the first row of each, and of all;
    `digest` of all bytes.
    """

    ends: list[int]
    firsts: list[int]
    digest: str

    @property
    def n(self) -> int:
        """The number of parts."""
        return len(self.ends) - 1


def split_rows(path: Path) -> RowParts:
    """The parts of the rows in `path`. Memory: one part."""
    digest, ends, firsts = hashlib.sha256(), [0], [0]
    with open(path, "rb") as file:
        while block := file.read(PART_BYTES):
            block += file.readline()
            digest.update(block)
            ends.append(ends[-1] + len(block))
            firsts.append(firsts[-1] + block.count(b"\n"))
    return RowParts(ends, firsts, digest.hexdigest()[:16])


def read_range(path: Path, start: int, end: int) -> bytes:
    """The bytes of `path` from `start` to `end`."""
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
