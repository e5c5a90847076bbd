"""A network drive that vanishes while files on it are read: what came before stays, each file is named, the rest goes on."""

from __future__ import annotations

import builtins
import bz2
import errno
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents

TEXT = "".join(f"This is line {i} of a text that is on a drive.\n" for i in range(8_000))
N_READ = 300_000  # bytes of a file until the drive is gone


class _Vanishing(io.FileIO):
    """A file whose drive vanishes when some bytes have been read."""

    n_read = 0

    def readinto(self, buffer: Any) -> int | None:
        return self._counted(super().readinto(buffer))

    def readall(self) -> bytes:
        content = super().readall()
        self._counted(len(content))
        return content

    def _counted(self, n: int | None) -> int | None:
        self.n_read += n or 0
        if self.n_read > N_READ:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return n


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files of names with "gone" are on a drive that vanishes."""
    real = builtins.open

    def opened(file: Any, mode: str = "r", *values: Any, **named: Any) -> Any:
        if "b" in mode and "gone" in os.path.basename(str(file)) and "r" in mode:
            return io.BufferedReader(_Vanishing(file, "r"))
        return real(file, mode, *values, **named)

    folder = tmp_path / "drive"
    folder.mkdir()
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(io, "open", opened)
    return folder


def _write_zip(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.txt", data[:20_000])
        archive.writestr("second.txt", data)


def _write_rows(path: Path, data: bytes) -> None:
    path.write_text("\n".join(json.dumps({"text": line}) for line in data.decode().splitlines()))


WRITERS: dict[str, Callable[[Path, bytes], object]] = {
    "gone.txt": lambda path, data: path.write_bytes(data),
    "gone.jsonl": _write_rows,
    "gone.txt.gz": lambda path, data: path.write_bytes(gzip.compress(data, 0)),
    "gone.txt.bz2": lambda path, data: path.write_bytes(bz2.compress(os.urandom(400_000).hex().encode())),
    "gone.zip": _write_zip,
    "gone.parquet": lambda path, data: parquet.write_table(
        pyarrow.table({"text": data.decode().splitlines()}), path, compression="none", use_dictionary=False
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_drive_that_vanishes_in_the_middle_of_a_file(drive: Path, name: str) -> None:
    WRITERS[name](drive / name, TEXT.encode())
    (drive / "a.txt").write_text("A file before it, of another drive.")
    (drive / "z.txt").write_text("A file after it, of another drive.")
    report = ReadReport()
    documents = list(read_documents(TextConfig(paths=(str(drive),)), report))
    sources = {document.source for document in documents}
    assert {"drive/a.txt", "drive/z.txt"} <= sources
    assert report.skipped == {"cannot be read": 1}
    assert report.skipped_files == [(f"drive/{name}", f"cannot be read: {os.strerror(errno.EIO)}")]
    if name == "gone.zip":  # the member before it stays
        assert any(source.startswith(f"drive/{name}") for source in sources)
