"""The members of a zip archive whose end is missing, such as one whose copying was cut off: the list of members is there,
and what remains are the members one after the other, each after a header of its own.

Only the two usual methods are known (stored, deflated). The archive is walked once from its front; a member must be read to
its end before the next one is requested. It stops at the first place that is no header.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from parakit.data.readers.compression import BLOCK

_HEADER = struct.Struct("<4s5H3L2H")
_MARK, _SIZES_MARK = b"PK\x03\x04", b"PK\x07\x08"
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 0x1, 0x8, 0x800
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True)
class LocalMember:
    """A member: its name, and its bytes; None where they cannot be read, for `reason`."""

    name: str
    stream: IO[bytes] | None
    reason: str = ""


def local_members(path: Path) -> Iterator[LocalMember]:
    """The members in the order of the file. Reading one that is cut or damaged raises `EOFError` or `zlib.error`."""
    with open(path, "rb") as file:
        while len(head := file.read(_HEADER.size)) == _HEADER.size and head.startswith(_MARK):
            _, _, flags, method, _, _, crc, n_packed, _, n_name, n_extra = _HEADER.unpack(head)
            name = file.read(n_name).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
            file.seek(n_extra, io.SEEK_CUR)
            start, sizes_follow = file.tell(), bool(flags & _SIZES_FOLLOW)
            if method == _STORED and not sizes_follow and not flags & _ENCRYPTED:
                yield LocalMember(name, io.BufferedReader(_Stored(file, n_packed, crc)))
            elif method == _DEFLATED and not flags & _ENCRYPTED:
                content = _Inflated(file, None if sizes_follow else crc)
                yield LocalMember(name, io.BufferedReader(content))
                if sizes_follow:
                    if not content.is_read_to_its_end():
                        return
                    n_packed = content.n_packed
            else:
                yield LocalMember(name, None, "encrypted" if flags & _ENCRYPTED else "damaged zip")
                if sizes_follow:
                    return  # where it ends is only in the list that is missing
            file.seek(start + n_packed)
            if sizes_follow:
                _skip_sizes(file)


class _Stored(io.RawIOBase):
    """Bytes that are stored as they are; after the last one their checksum is compared."""

    def __init__(self, file: IO[bytes], n_bytes: int, crc: int | None) -> None:
        self._file, self._left, self._crc, self._sum = file, n_bytes, crc, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._next(len(buffer))
        buffer[: len(block)] = block
        self._sum = zlib.crc32(block, self._sum)
        if not block and self._crc is not None and self._sum != self._crc:
            raise zlib.error("its checksum differs")
        return len(block)

    def _next(self, n: int) -> bytes:
        block = self._file.read(min(n, self._left))
        if self._left and not block:
            raise EOFError("it ends early")
        self._left -= len(block)
        return block


class _Inflated(_Stored):
    """A deflated stream, which knows its own end. `n_packed` counts its bytes in the file."""

    def __init__(self, file: IO[bytes], crc: int | None) -> None:
        super().__init__(file, 0, crc)
        self._inflate, self.n_packed = zlib.decompressobj(-15), 0

    def is_read_to_its_end(self) -> bool:
        """Read what was not requested; False where it is damaged."""
        try:
            while self._next(BLOCK):
                pass
        except (EOFError, zlib.error):
            return False
        return True

    def _next(self, n: int) -> bytes:
        block = b""
        while not block and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail
            if not packed:
                packed = self._file.read(BLOCK)
                self.n_packed += len(packed)
                if not packed:
                    raise EOFError("it ends early")
            block = self._inflate.decompress(packed, n)
            self.n_packed -= len(self._inflate.unused_data)  # of what follows it
        return block


def _skip_sizes(file: IO[bytes]) -> None:
    """Move past the sizes that follow a member: 12 bytes, or 20 in a large archive, with or without a mark."""
    start = file.tell()
    found = file.read(28)
    for n in (16, 24, 12, 20):
        has_mark = n in (16, 24)
        if found.startswith(_SIZES_MARK) == has_mark and found[n : n + 2] in (b"PK", b""):
            file.seek(start + n)
            return
    file.seek(start + len(found))
