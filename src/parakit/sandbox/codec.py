"""Plain data as one line of JSON between processes: decoding yields None, numbers, text, bytes, containers of them, and
values of a few types of the standard library; nothing that the sender wrote is ever run.

Types are preserved (a tuple is not a list, True is not 1), and so is the identity of `math.nan`. An iterator is encoded as
its items; a subclass of number, text or container as its base type, without its methods. A line is a list in postfix order,
`[1, 2, {"tuple": 2}]` for `(1, 2)`, so that neither side recurses and depth has no limit of its own.
"""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_LINE = 4 << 20  # bytes of one message
_MAX_DEPTH, _MAX_NODES = 20_000, 1 << 20  # a value that contains itself has neither end
_DECIMAL_BITS = (
    4096  # larger integers are written in base 16: base 10 takes quadratic time, and Python limits it
)
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        int, float, str, bool, complex, bytes, bytearray, list, tuple, dict, set, frozenset, range, object, type(None),
    )
}  # fmt: skip
_TYPE_NAMES = {kind: name for name, kind in _TYPES.items()}


class NotSerializable(Exception):
    """A value that cannot be encoded, or bytes that cannot be decoded."""


class UnsupportedType(NotSerializable):
    """A value that is not plain data, whatever its size."""


def encode(value: Any) -> bytes:
    """One line; `NotSerializable` for a value of another type, nested too deep, or too long."""
    try:
        line = json.dumps(_nodes(value)).encode() + b"\n"
    except NotSerializable:
        raise
    except Exception as error:  # of methods that a program's own types override
        raise NotSerializable(f"{type(value).__name__}: {type(error).__name__}: {error}"[:500]) from None
    if len(line) > MAX_LINE:
        raise NotSerializable(f"{len(line):,} bytes, over {MAX_LINE:,}")
    return line


def decode(line: bytes) -> Any:
    """The value of an untrusted line; `NotSerializable` where it has none."""
    if not line.endswith(b"\n") or len(line) > MAX_LINE:
        raise NotSerializable("a line without end")
    try:
        return _value(json.loads(line))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, AttributeError) as error:
        raise NotSerializable(f"{type(error).__name__}: {error}"[:500]) from None


class _Node:
    """What stands after its children."""

    def __init__(self, kind: str, content: Any) -> None:
        self.json = {kind: content}


def _nodes(value: Any) -> list[Any]:
    """The value in postfix order."""
    nodes: list[Any] = []
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > _MAX_DEPTH or len(nodes) + len(waiting) > _MAX_NODES:
            raise NotSerializable(f"nested deeper than {_MAX_DEPTH}, or over {_MAX_NODES:,} parts")
        if type(one) is _Node:
            nodes.append(one.json)
            continue
        parts = _parts(one)
        if isinstance(parts, tuple):
            node, children = parts
            waiting.append((node, depth))
            waiting.extend((child, depth + 1) for child in reversed(children))
        else:
            nodes.append(parts)
    return nodes


def _parts(value: Any) -> Any:
    """JSON for a value without children, else a node and its children."""
    if value is None or isinstance(value, bool):
        return value
    if value is math.nan:
        return {"nan": None}
    if isinstance(value, int):
        number = int(value)
        return {"int": hex(number)} if number.bit_length() > _DECIMAL_BITS else number
    for scalar in (float, str):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, bytes | bytearray):
        return {"bytearray" if isinstance(value, bytearray) else "bytes": bytes(value).decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, type) and value in _TYPE_NAMES:
        return {"type": _TYPE_NAMES[value]}
    if isinstance(value, datetime | date | time):
        kind = next(kind for kind in (datetime, date, time) if isinstance(value, kind))
        return {kind.__name__: value.isoformat()}
    if isinstance(value, Decimal):
        return {"Decimal": str(value)}
    return _container_parts(value)


def _container_parts(value: Any) -> tuple[_Node, list[Any]]:
    if isinstance(value, range):
        return _Node("range", 3), [value.start, value.stop, value.step]
    if isinstance(value, Fraction):
        return _Node("Fraction", 2), [value.numerator, value.denominator]
    if isinstance(value, timedelta):
        return _Node("timedelta", 3), [value.days, value.seconds, value.microseconds]
    if isinstance(value, dict):
        return _dict_parts(value)
    fields = getattr(value, "_fields", None)
    if isinstance(value, tuple) and isinstance(fields, tuple):
        return _Node("namedtuple", [type(value).__name__, list(fields)]), list(value)
    if isinstance(value, deque):
        return _Node("deque", [len(value), value.maxlen]), list(value)
    for container in (list, tuple, set, frozenset):
        if isinstance(value, container):
            items = list(value)
            return _Node(container.__name__, len(items)), items
    for view in (KeysView, ValuesView, ItemsView):
        if isinstance(value, view):
            items = list(value)
            return _Node(view.__name__, len(items)), items
    if isinstance(value, Iterator):
        items = []
        for item in value:
            items.append(item)
            if len(items) > _MAX_NODES:
                raise NotSerializable(f"an iterator of over {_MAX_NODES:,} items")
        return _Node("iterator", len(items)), items
    raise UnsupportedType(f"{type(value).__name__} is not plain data")


def _dict_parts(value: dict[Any, Any]) -> tuple[_Node, list[Any]]:
    children = [part for item in value.items() for part in item]
    kind = next(
        (kind for kind in (Counter, OrderedDict, defaultdict) if isinstance(value, kind)), dict
    ).__name__
    if kind == "defaultdict":
        factory = value.default_factory if isinstance(value, defaultdict) else None
        name = _TYPE_NAMES.get(factory) if isinstance(factory, type) else None
        return _Node("defaultdict", [len(value), name]), children
    return _Node(kind, len(value)), children


def _value(nodes: list[Any]) -> Any:
    """The value of a list in postfix order."""
    if not isinstance(nodes, list):
        raise ValueError("no list")
    stack: list[Any] = []
    for node in nodes:
        if isinstance(node, list):
            raise ValueError("a list inside")
        if not isinstance(node, dict):
            stack.append(node)
            continue
        ((kind, content),) = node.items()
        if kind in _SCALARS:
            stack.append(_SCALARS[kind](content))
            continue
        n, build = _builder(kind, content)
        if type(n) is not int or not 0 <= n <= len(stack):
            raise ValueError(f"{kind} of {n!r} parts")
        children = stack[len(stack) - n :]
        del stack[len(stack) - n :]
        stack.append(build(children))
    (found,) = stack
    return found


def _builder(kind: str, content: Any) -> tuple[int, Callable[[list[Any]], Any]]:
    """How many children a node takes, and what it makes of them."""
    if kind == "namedtuple":
        name, fields = content
        make: Callable[[list[Any]], Any] = getattr(namedtuple(name, fields), "_make")  # noqa: B009
        return len(fields), make
    if kind == "deque":
        n, maxlen = content
        return n, lambda items: deque(items, maxlen)
    if kind == "defaultdict":
        n, factory = content
        return 2 * n, lambda items: defaultdict(None if factory is None else _TYPES[factory], _pairs(items))
    if kind in _MAPPINGS:
        return 2 * content, lambda items: _MAPPINGS[kind](_pairs(items))
    return content, _CONTAINERS[kind]


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _bytes(text: str) -> bytes:
    if not isinstance(text, str):
        raise ValueError("bytes that are not text")
    return text.encode("latin-1")


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "nan": lambda _: math.nan,
    "int": lambda text: int(text, 16),
    "bytes": _bytes,
    "bytearray": lambda text: bytearray(_bytes(text)),
    "complex": lambda pair: complex(*pair),
    "type": lambda name: _TYPES[name],
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "Decimal": lambda text: Decimal(text if isinstance(text, str) else "x"),
}
_MAPPINGS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "dict": dict,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
}
_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
    "range": lambda parts: range(*parts),
    "Fraction": lambda parts: Fraction(*map(int, parts)),
    "timedelta": lambda parts: timedelta(*parts),
    "KeysView": lambda items: dict.fromkeys(items).keys(),
    "ValuesView": lambda items: dict(enumerate(items)).values(),
    "ItemsView": lambda items: dict(items).items(),
}
