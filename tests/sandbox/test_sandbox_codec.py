"""The codec between two confined processes: all plain data round-trips, and nothing else can be decoded, whatever the bytes."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import math
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
    type(None), bool, int, float, str, bytes, bytearray, complex, list, tuple, set, frozenset, dict, range, type(iter([])),
    collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque, decimal.Decimal,
    fractions.Fraction, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, type,
    type({}.keys()), type({}.values()), type({}.items()),
}  # fmt: skip


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


_NAMES = [*(k.__name__ for k in KINDS), "iterator", "nan", "namedtuple", "KeysView", "ItemsView", "x"]
_CONTENT = (
    st.integers(-2, 4)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.none() | st.integers(-2, 4) | st.text(max_size=3), max_size=3)
)
_JSON = st.lists(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dictionaries(st.sampled_from(_NAMES), _CONTENT, max_size=2)
)


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_plain_data_can_arrive(line: bytes) -> None:
    try:
        found = decode(line + b"\n")
    except NotSerializable:
        return
    assert {kind for kind in kinds(found) if not hasattr(kind, "_fields")} <= KINDS


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
    assert (type(counts), counts["z"]) == (collections.Counter, 0)
    assert (pair, pair.y, repr(pair)) == ((1, 2), 2, "point(x=1, y=2)")
    assert (type(ordered), numbers, keys) == (collections.OrderedDict, range(3), {1})
    assert list(decode(encode(n * n for n in range(3)))) == [0, 1, 4]


@pytest.mark.parametrize("value", [object(), print, type, NotSerializable, {1: len}, [open]])
def test_what_is_no_plain_data_does_not_travel(value: Any) -> None:
    with pytest.raises(UnsupportedType):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(10**100_000),
        {10**5000: [10**6000]},
        decimal.Decimal("1.50"),
        fractions.Fraction(2, 3),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.UTC),
        datetime.date(2024, 2, 29),
        datetime.time(1, 2),
        datetime.timedelta(-1, 2, 3),
        collections.deque([1, 2], 3),
        collections.Counter("aab"),
        collections.OrderedDict(b=1, a=2),
        {1: 2}.items(),
        [int, str, type(None)],
        float("inf"),
        -0.0,
        "\ud800\x00",
        (),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_the_library_arrive_as_they_were(value: Any) -> None:
    found = decode(encode(value))
    assert (type(found), found) == (type(value), value)
    if not isinstance(value, int | dict):
        assert str(found) == str(value)


def test_what_a_default_is_made_of_arrives() -> None:
    sent = collections.defaultdict(list, a=[1])
    found = decode(encode(sent))
    assert found["new"] == []
    assert found == {"a": [1], "new": []}
    unknown = decode(encode(collections.defaultdict(lambda: 7, a=1)))
    assert unknown.default_factory is None


def test_not_a_number_is_itself_and_no_other() -> None:
    mine, other = decode(encode([math.nan, float("nan")]))
    assert [mine] == [math.nan]
    assert [other] != [math.nan]


def test_depth_and_size_have_bounds_that_no_program_meets() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    found, n = decode(encode(deep)), 0
    while found:
        found, n = found[0], n + 1
    assert n == 10_000
    ring: list[Any] = []
    ring.append(ring)
    both: list[Any] = []
    both += [both, both]
    for value in (ring, both, "x" * MAX_LINE, iter(int, 1)):
        with pytest.raises(NotSerializable):
            encode(value)
    lines = (
        b"[" * 100_000 + b"]" * 100_000 + b"\n",
        b'["' + b"x" * MAX_LINE + b'"]\n',
        b"[1]",
        b"",
        b"[]\n",
        b"[1, 2]\n",
    )
    for line in lines:
        with pytest.raises(NotSerializable):
            decode(line)
