"""How large the pages of a Parquet file become, by the header of each, before any of it is decompressed.

The sizes in a file's footer may say less than its pages. Each page has a header (Thrift's compact protocol, the fields of
parquet.thrift) with its size without compression, and decompression never writes more than that.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from typing import IO, Any

_ROW_GROUPS, _COLUMNS, _METADATA = 4, 1, 3  # fields of FileMetaData, RowGroup, ColumnChunk
_PATH, _COMPRESSED, _DATA, _DICTIONARY = 3, 7, 9, 11  # of ColumnMetaData
_PAGE_SIZE, _PAGE_COMPRESSED = 2, 3  # of PageHeader
MAX_FOOTER, MAX_HEADER = 2**26, 2**24
_MAX_DEPTH = 32
_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12


def page_sizes(stream: IO[bytes], columns: Collection[str] | None = None) -> Iterator[int]:
    """Bytes of each page when it is decompressed, of the named columns (None: of all). `ValueError` for damage."""
    end = stream.seek(0, os.SEEK_END)
    try:
        stream.seek(end - 8)
        (n_footer,) = struct.unpack("<I", stream.read(4))
        if not 0 < n_footer <= min(end - 8, MAX_FOOTER):
            raise ValueError(f"a footer of {n_footer:,} bytes")
        stream.seek(end - 8 - n_footer)
        footer = _Thrift(stream.read(n_footer)).struct()
        for group in footer.get(_ROW_GROUPS, []):
            for column in group.get(_COLUMNS, []):
                facts = column.get(_METADATA, {})
                name = next(iter(facts.get(_PATH, [])), b"").decode("utf-8", "replace")
                if columns is None or name in columns:
                    yield from _pages(stream, facts, end)
    except (IndexError, KeyError, AttributeError, TypeError, struct.error, OSError) as error:
        raise ValueError(f"damaged metadata: {error}") from None


def _pages(stream: IO[bytes], facts: dict[int, Any], end: int) -> Iterator[int]:
    place = facts[_DATA]
    if 0 < facts.get(_DICTIONARY, 0) < place:
        place = facts[_DICTIONARY]
    last = min(end, place + facts[_COMPRESSED])
    while place < last:
        header, n_bytes = _header(stream, place)
        yield max(0, header[_PAGE_SIZE])
        place += n_bytes + max(0, header[_PAGE_COMPRESSED])


def _header(stream: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    size = 2**9
    while True:
        stream.seek(place)
        found = _Thrift(stream.read(size))
        try:
            return found.struct(), found.place
        except IndexError:
            if size >= MAX_HEADER or len(found.data) < size:
                raise
        size *= 8  # it has long statistics


class _Thrift:
    """Thrift's compact protocol: structs as dicts by the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        values: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._number()
            kind = head & 15
            values[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if _BYTE < kind <= _I64:
            return self._number()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            n = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(n)]
        if kind == _MAP:
            n = self._varint()
            kinds = self._byte() if n else 0
            return [
                (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1)) for _ in range(n)
            ]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"no kind {kind} of values")

    def _byte(self) -> int:
        byte = self.data[self.place]
        self.place += 1
        return byte

    def _bytes(self, n: int) -> bytes:
        found = self.data[self.place : self.place + n]
        if len(found) < n:
            raise IndexError("it ends early")
        self.place += n
        return found

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
