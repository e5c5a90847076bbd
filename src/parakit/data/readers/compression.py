"""Streams of compressed files: gzip, Zstandard, xz and bzip2, each with bounded memory and several parts in a row.

A stream can go back: it is then read again from the beginning. xz may use 256 MiB (its own greatest level takes 65), and
Zstandard's window 128 MiB, the format's recommended limit.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from parakit.data.readers.input_file import Compression

BLOCK = 2**18
MAX_XZ_MEMORY = 2**28
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
TITLES = {"gz": "gzip", "zst": "Zstandard", "xz": "xz", "bz2": "bzip2"}


class DamagedStreamError(EOFError):
    """Bytes that are no compressed stream, or not the whole of one."""


def open_compressed(path: Path, compression: Compression | None) -> IO[bytes]:
    """The decompressed bytes of a file; reading raises one of `DAMAGE` where it is damaged."""
    if compression is None:
        return open(path, "rb")
    if compression == "gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if compression == "zst":
        return io.BufferedReader(_Restarting(path, _Zstandard), BLOCK)
    make = _xz if compression == "xz" else bz2.BZ2Decompressor
    return io.BufferedReader(_Restarting(path, lambda file: _Parts(file, make)), BLOCK)


def read_head(stream: IO[bytes], n: int) -> bytes:
    """The first `n` bytes, or those before a damaged place; raises one of `DAMAGE` where there is none before it."""
    head = b""
    try:
        while len(head) < n and (block := stream.read1(n - len(head))):  # type: ignore[attr-defined]
            head += block
    except DAMAGE:
        if not head:
            raise
    return head


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)


class _Parts:
    """Parts of xz or bzip2 in a row."""

    def __init__(self, file: IO[bytes], make: Callable[[], Any]) -> None:
        self._file, self._make = file, make
        self._decompressor, self._held, self._n_parts = make(), b"", 0

    def read(self, n: int) -> bytes:
        while True:
            if self._decompressor.eof:
                self._n_parts += 1
                self._held = self._decompressor.unused_data.lstrip(b"\0")  # padding of xz
                while not self._held and (block := self._file.read(BLOCK)):
                    self._held = block.lstrip(b"\0")
                if not self._held:
                    return b""
                self._decompressor = self._make()
            needed = self._decompressor.needs_input
            block = (self._held or self._file.read(BLOCK)) if needed else b""
            self._held = b""
            if needed and not block:
                raise DamagedStreamError("it ends early")
            try:
                if text := self._decompressor.decompress(block, n):
                    return bytes(text)
            except OSError as error:  # bz2's only error
                raise DamagedStreamError(str(error)) from None


class _Zstandard:
    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow  # here: slow to import, and most corpora need none of it

        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")

    def read(self, n: int) -> bytes:
        try:
            return bytes(self._stream.read(n))
        except OSError as error:
            raise DamagedStreamError(str(error).split("\n")[0][:200]) from None


class _Restarting(io.RawIOBase):
    """A stream that goes back by beginning again."""

    def __init__(self, path: Path, start: Callable[[IO[bytes]], _Parts | _Zstandard]) -> None:
        self._path, self._start = path, start
        self._restart()

    def _restart(self) -> None:
        self._file = open(self._path, "rb")  # noqa: SIM115 - closed with the stream
        self._parts, self._at = self._start(self._file), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._parts.read(len(buffer))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the size of a compressed stream is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._file.close()
            self._restart()
        while self._at < target:
            block = self._parts.read(min(BLOCK, target - self._at))
            if not block:
                break
            self._at += len(block)
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
