"""A reader of protocol buffers: numbered fields, one after another.

Safe for untrusted files: every length is compared with the remaining bytes, a number has at most ten bytes, and only the
caller opens nested messages. Groups, which are deprecated, are refused. See protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = struct.Struct("<f")

Value = int | bytes


def fields(
    data: bytes | memoryview, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, int, Value]]:
    """Number, wire type and value of each field of a message: an int for numbers (32- and 64-bit ones as their bytes
    in little-endian order), bytes for strings and messages. `ValueError` when the message is cut short or malformed.
    """
    end = len(data) if stop is None else stop
    while start < end:
        key, start = _number(data, start, end)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError(f"field number 0 at byte {start}")
        if kind == _VARINT:
            value, start = _number(data, start, end)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, start = _number(data, start, end)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"field {number} at byte {start} has wire type {kind}, which is unknown")
        if size > end - start:
            raise ValueError(f"field {number} at byte {start} claims {size} bytes, {end - start} are left")
        yield number, kind, bytes(data[start : start + size])
        start += size


def as_int(value: Value) -> int:
    """A signed number; negative ones are written as two's complement of 64 bits."""
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def as_float(value: Value) -> float:
    """A 32-bit float; it must be finite."""
    if not isinstance(value, bytes) or len(value) != 4:
        raise ValueError("no 32-bit float where one belongs")
    (number,) = _FLOAT.unpack(value)
    if number - number != 0:  # infinite, or not a number
        raise ValueError(f"the score {number} is not finite")
    return number


def as_bytes(value: Value) -> bytes:
    """A string's or a message's bytes."""
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes belong")
    return value


def _number(data: bytes | memoryview, start: int, end: int) -> tuple[int, int]:
    """A varint (seven bits a byte), and the index after it."""
    number = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise ValueError("the message ends inside a number")
        byte = data[start]
        start += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, start
    raise ValueError(f"the number at byte {start - 10} has more than ten bytes")
