"""Plain data as one line of JSON between processes: decoding yields only None, numbers, text, bytes and containers of
them. Types are preserved (a tuple is not a list, True is not 1). An iterator is encoded as its items; a subclass of
dict, list, tuple, number or text as its base type, without its methods.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, KeysView, ValuesView
from typing import Any

MAX_LINE = 4 << 20  # bytes of one message
_MAX_DEPTH = 100


class NotSerializable(Exception):
    """A value that cannot be encoded, or bytes that cannot be decoded."""


class UnsupportedType(NotSerializable):
    """A value that is not plain data, whatever its size."""


def encode(value: Any) -> bytes:
    """One line; `NotSerializable` for a value of another type, nested too deep, or too long."""
    try:
        line = json.dumps(_to_json(value, _MAX_DEPTH)).encode() + b"\n"
    except NotSerializable:
        raise
    except (ValueError, TypeError, RecursionError, RuntimeError) as error:
        raise NotSerializable(f"{type(value).__name__}: {error}") from None
    if len(line) > MAX_LINE:
        raise NotSerializable(f"{len(line):,} bytes, over {MAX_LINE:,}")
    return line


def decode(line: bytes) -> Any:
    """The value of an untrusted line; `NotSerializable` where it has none."""
    if not line.endswith(b"\n") or len(line) > MAX_LINE:
        raise NotSerializable("a line without end")
    try:
        return _from_json(json.loads(line), _MAX_DEPTH)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotSerializable(f"{type(error).__name__}: {error}") from None


def _to_json(value: Any, depth: int) -> Any:
    if depth == 0:
        raise NotSerializable(f"nested deeper than {_MAX_DEPTH}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    for scalar_type in (int, float, str):
        if isinstance(value, scalar_type):
            return scalar_type(value)
    if isinstance(value, dict):
        return {"dict": [[_to_json(k, depth - 1), _to_json(v, depth - 1)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: bytes(value).decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    return _container_to_json(value, depth - 1)


def _container_to_json(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return _items_to_json(value, depth)
    for container_type in (tuple, set, frozenset):
        if isinstance(value, container_type):
            return {container_type.__name__: _items_to_json(value, depth)}
    if isinstance(value, Iterator | KeysView | ValuesView):
        return {"iterator": _items_to_json(value, depth)}
    raise UnsupportedType(f"{type(value).__name__} is not plain data")


def _items_to_json(values: Iterable[Any], depth: int) -> list[Any]:
    return [_to_json(value, depth) for value in values]


def _from_json(encoded: Any, depth: int) -> Any:
    if depth == 0:
        raise NotSerializable(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(encoded, list):
        return [_from_json(value, depth - 1) for value in encoded]
    if not isinstance(encoded, dict):
        return encoded
    ((type_name, content),) = encoded.items()
    if type_name in ("bytes", "bytearray"):
        if not isinstance(content, str):
            raise NotSerializable("bytes that are not text")
        data = content.encode("latin-1")
        return data if type_name == "bytes" else bytearray(data)
    values = [_from_json(value, depth - 1) for value in content]
    if type_name == "dict":
        return {key: value for key, value in values}  # noqa: C416 (two of each, or an error)
    if type_name in ("complex", "range"):
        return complex(*values) if type_name == "complex" else range(*values)
    if type_name == "iterator":
        return iter(values)
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[type_name](values)
