"""Documents damaged at random bytes: what `read_documents` has to live with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents


def damage(data: bytes, random: numpy.random.Generator) -> bytes:
    """The bytes with some of them changed, cut out, or put in twice, or with the end missing."""
    raw = bytearray(data)
    for _ in range(int(random.integers(1, 12))):
        at = int(random.integers(0, max(1, len(raw))))
        match int(random.integers(0, 8)):
            case 0:
                del raw[at : at + int(random.integers(1, 64))]
            case 1:
                raw[at:at] = raw[at : at + int(random.integers(1, 64))]
            case 2 if len(raw) > 200:
                del raw[max(100, at) :]
            case _:
                if raw:
                    raw[min(at, len(raw) - 1)] = int(random.integers(0, 256))
    return bytes(raw)


def read_damaged(
    originals: dict[str, bytes], folder: Path, n_each: int, seed: int = 0
) -> Iterator[tuple[str, float, ReadReport]]:
    """Read each file damaged in `n_each` ways: its name, the seconds it took, and the report. Every other exception than a
    reason in the report is raised, but for the one that says that most rows are broken.
    """
    folder.mkdir(exist_ok=True)
    for name, data in originals.items():
        for number in range(n_each):
            (folder / "whole.txt").write_text("A file that is whole.")
            (folder / name).write_bytes(damage(data, rng(seed, f"damage {name} {number}")))
            report = ReadReport()
            start = time.monotonic()
            try:
                documents = list(read_documents(TextConfig(paths=(str(folder),)), report))
                assert any(document.text == "A file that is whole." for document in documents)
                named = sum(report.skipped.values()) + report.files + len(report.broken_files)
                assert named >= 2, f"{name} {number} is neither read nor named"
            except UserError as error:
                if "rows cannot be read" not in str(error):  # most rows of the folder are broken
                    raise
            finally:
                (folder / name).unlink()
            yield name, time.monotonic() - start, report
