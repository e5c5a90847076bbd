"""The codec between two confined processes: all plain data round-trips, and nothing else can be decoded, whatever the bytes."""

from __future__ import annotations

import collections
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.sandbox.codec import MAX_LINE, NotSerializable, UnsupportedType, decode, encode

HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
PLAIN = st.recursive(
    HASHABLE | st.complex_numbers(allow_nan=False) | st.binary().map(bytearray),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.sets(HASHABLE) | st.dictionaries(HASHABLE, inner),
    max_leaves=20,
)
KINDS = {
    type(None),
    bool,
    int,
    float,
    str,
    bytes,
    bytearray,
    complex,
    list,
    tuple,
    set,
    frozenset,
    dict,
    range,
    type(iter([])),
}


def kinds(value: Any) -> set[type]:
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    found = {type(value)}
    if isinstance(value, list | tuple | set | frozenset | dict):
        found.update(*map(kinds, inside))
    return found


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same kinds all through; sets may stand in another order."""
    if type(a) is not type(b) or a != b:
        return False
    if isinstance(a, list | tuple):
        return all(map(same, a, b))
    return kinds(a) == kinds(b)


@given(PLAIN)
def test_plain_data_arrives_as_it_was(value: Any) -> None:
    line = encode(value)
    assert line.count(b"\n") == 1
    assert same(decode(line), value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*(k.__name__ for k in KINDS), "iterator", "x"]), inner),
)  # fmt: skip


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_plain_data_can_arrive(line: bytes) -> None:
    try:
        found = decode(line + b"\n")
    except NotSerializable:
        return
    assert kinds(found) <= KINDS


def test_what_is_a_kind_of_plain_data_arrives_as_that() -> None:
    class Own(int):
        __eq__ = lambda self, other: True  # type: ignore[assignment] # noqa: E731
        __hash__ = int.__hash__

    point = collections.namedtuple("point", "x y")
    sent = [
        Own(3),
        collections.Counter("aab"),
        point(1, 2),
        collections.OrderedDict(b=1),
        {1: 2}.keys(),
        range(3),
    ]
    number, counts, pair, ordered, keys, numbers = decode(encode(sent))
    assert type(number) is int
    assert number != 4
    assert (type(counts), counts) == (dict, {"a": 2, "b": 1})
    assert (type(pair), type(ordered), numbers, list(keys)) == (tuple, dict, range(3), [1])
    assert list(decode(encode(n * n for n in range(3)))) == [0, 1, 4]


@pytest.mark.parametrize("value", [object(), print, type, NotSerializable, {1: len}, [open]])
def test_what_is_no_plain_data_does_not_travel(value: Any) -> None:
    with pytest.raises(UnsupportedType):
        encode(value)


def test_what_is_too_deep_or_too_large_does_not_travel() -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    ring: list[Any] = []
    ring.append(ring)
    for value in (deep, ring, "x" * MAX_LINE, 10**5000):
        with pytest.raises(NotSerializable):
            encode(value)
    for line in (b"[" * 200 + b"]" * 200 + b"\n", b'"' + b"x" * MAX_LINE + b'"\n', b"[1]", b""):
        with pytest.raises(NotSerializable):
            decode(line)
