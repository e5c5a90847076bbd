"""Plain data on its way between processes: one line of JSON, from which nothing but None, numbers, text, bytes and
containers of them can arise. Types stay apart (a tuple is not a list, True is not 1). An iterator travels as what
it yields. What is a kind of dict, list, tuple, number or text travels as that kind: methods stay behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, KeysView, ValuesView
from typing import Any

MAX_LINE = 4 << 20  # bytes of one message
_DEPTH = 100


class NotPlain(Exception):
    """A value that cannot travel, or bytes that say none."""


class WrongKind(NotPlain):
    """A value that is no plain data, of whatever size."""


def to_line(value: Any) -> bytes:
    """One line; `NotPlain` for a value of another kind, nested too deep, or too long."""
    try:
        line = json.dumps(_packed(value, _DEPTH)).encode() + b"\n"
    except NotPlain:
        raise
    except (ValueError, TypeError, RecursionError, RuntimeError) as error:
        raise NotPlain(f"{type(value).__name__}: {error}") from None
    if len(line) > MAX_LINE:
        raise NotPlain(f"{len(line):,} bytes, over {MAX_LINE:,}")
    return line


def from_line(line: bytes) -> Any:
    """The value of a line, from whomever it came; `NotPlain` for one that says none."""
    if not line.endswith(b"\n") or len(line) > MAX_LINE:
        raise NotPlain("a line without end")
    try:
        return _unpacked(json.loads(line), _DEPTH)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotPlain(f"{type(error).__name__}: {error}") from None


def _packed(value: Any, depth: int) -> Any:
    if depth == 0:
        raise NotPlain(f"nested deeper than {_DEPTH}")
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {"dict": [[_packed(k, depth - 1), _packed(v, depth - 1)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: bytes(value).decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    return _packed_items(value, depth - 1)


def _packed_items(value: Any, depth: int) -> Any:
    if isinstance(value, list):
        return _all(value, depth)
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: _all(value, depth)}
    if isinstance(value, Iterator | KeysView | ValuesView):
        return {"iterator": _all(value, depth)}
    raise WrongKind(f"{type(value).__name__} is no plain data")


def _all(values: Iterable[Any], depth: int) -> list[Any]:
    return [_packed(value, depth) for value in values]


def _unpacked(said: Any, depth: int) -> Any:
    if depth == 0:
        raise NotPlain(f"nested deeper than {_DEPTH}")
    if isinstance(said, list):
        return [_unpacked(value, depth - 1) for value in said]
    if not isinstance(said, dict):
        return said
    ((kind, content),) = said.items()
    if kind in ("bytes", "bytearray"):
        found = content.encode("latin-1") if isinstance(content, str) else None
        if found is None:
            raise NotPlain("bytes that are no text")
        return found if kind == "bytes" else bytearray(found)
    values = [_unpacked(value, depth - 1) for value in content]
    if kind == "dict":
        return {key: value for key, value in values}  # noqa: C416 (two of each, or an error)
    if kind in ("complex", "range"):
        return complex(*values) if kind == "complex" else range(*values)
    if kind == "iterator":
        return iter(values)
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](values)
