"""How large an Arrow file becomes, by what it says of itself, before any of it is decompressed.

A message of an Arrow stream is a flatbuffer of metadata and a body. Where the body is compressed, each of its buffers begins
with its size without compression (8 bytes, little endian; -1: it is not compressed), see "Serialization and Interprocess
Communication" of the Arrow columnar format. A file is the same stream between two marks. Decompression never writes more
than this size, so a file whose sizes sum to more than its limit is left out unread.
"""

from __future__ import annotations

import struct
from typing import Any

_DICTIONARY, _BATCH = 2, 3  # kinds of messages, as Message.fbs numbers them
_RECORD_BATCH = 2  # the field of a dictionary message that holds its batch
_BUFFERS, _COMPRESSION = 2, 3  # fields of a record batch
_BUFFER = struct.Struct("<qq")  # where it begins in the body, and its length


def declared_size(message: Any) -> int:
    """Bytes of the buffers of a `pyarrow.ipc.Message` when they are decompressed; `ValueError` for damaged metadata."""
    metadata = memoryview(message.metadata)
    try:
        root = _Table.at(metadata, _u32(metadata, 0))
        kind = root.byte(1)
        if kind not in (_DICTIONARY, _BATCH) or (batch := root.table(2)) is None:
            return 0
        if kind == _DICTIONARY and (batch := batch.table(_RECORD_BATCH - 1)) is None:
            return 0
        body = memoryview(message.body) if message.body is not None else memoryview(b"")
        is_compressed = batch.table(_COMPRESSION) is not None
        return sum(_size(body, start, n, is_compressed) for start, n in batch.buffers(_BUFFERS))
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged metadata: {error}") from None


def _size(body: memoryview, start: int, n: int, is_compressed: bool) -> int:
    if not is_compressed or n < 8 or not 0 <= start <= len(body) - 8:
        return max(0, n)
    (size,) = struct.unpack_from("<q", body, start)
    return int(size) if size >= 0 else n - 8


def _u32(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


class _Table:
    """A table of a flatbuffer: where its fields are."""

    def __init__(self, data: memoryview, place: int, fields: tuple[int, ...]) -> None:
        self._data, self._place, self._fields = data, place, fields

    @classmethod
    def at(cls, data: memoryview, place: int) -> _Table:
        vtable = place - struct.unpack_from("<i", data, place)[0]
        if vtable < 0:
            raise IndexError("a table lies outside")
        n_bytes = struct.unpack_from("<H", data, vtable)[0]
        return cls(data, place, struct.unpack_from(f"<{max(0, n_bytes - 4) // 2}H", data, vtable + 4))

    def _field(self, number: int) -> int | None:
        offset = self._fields[number] if number < len(self._fields) else 0
        return self._place + offset if offset else None

    def byte(self, number: int) -> int:
        at = self._field(number)
        return 0 if at is None else self._data[at]

    def table(self, number: int) -> _Table | None:
        at = self._field(number)
        return None if at is None else _Table.at(self._data, at + _u32(self._data, at))

    def buffers(self, number: int) -> list[tuple[int, int]]:
        """A vector of places and lengths."""
        if (at := self._field(number)) is None:
            return []
        start = at + _u32(self._data, at)
        n = _u32(self._data, start)
        return list(_BUFFER.iter_unpack(self._data[start + 4 : start + 4 + n * _BUFFER.size]))
