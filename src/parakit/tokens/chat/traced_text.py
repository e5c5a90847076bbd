"""Text that remembers where each of its characters comes from, while a chat template works on it.

A template splits, trims, joins, escapes and repeats what it is given; afterwards it must be known which characters are the
template's own (only those may form a control token), and which are a message's (only an assistant's count in the loss).
`TracedText` is a string with a parallel string of the same length, `sources`, whose code points name the origin of each
character: what happens to the one happens to the other. An operation that is not followed gives `UNKNOWN`, never
`TEMPLATE`. The module runs in the child process of `template_sandbox` and imports the standard library only.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

TEMPLATE, UNKNOWN = "\x00", "\x01"
_FIRST_LEAF = 2
_MAX_LEAVES = 1_000_000
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"}


class TracedText(str):
    """A string with the source of each character; compares, hashes and counts as the string."""

    __slots__ = ("sources",)
    sources: str

    @classmethod
    def of(cls, text: str, sources: str) -> Self:
        """`sources` has one character for each of `text`, or is one character for all of them."""
        traced = str.__new__(cls, text)
        traced.sources = sources if len(sources) == len(text) else sources * len(text)
        return traced

    def _like(self, text: str, sources: str) -> TracedText:
        return type(self).of(text, sources)

    def _slice(self, start: int, length: int) -> TracedText:
        return self._like(
            str.__getitem__(self, slice(start, start + length)), self.sources[start : start + length]
        )

    def _slices(self, parts: Iterable[str], gap: int = 0) -> list[TracedText]:
        """`parts`, which follow each other `gap` characters apart."""
        found, position = [], 0
        for part in parts:
            found.append(self._slice(position, len(part)))
            position += len(part) + gap
        return found

    def __str__(self) -> str:
        return self

    def __getitem__(self, key: Any) -> TracedText:
        return self._like(str.__getitem__(self, key), self.sources[key])

    def __iter__(self) -> Iterator[TracedText]:
        return (self._slice(i, 1) for i in range(len(self)))

    def __add__(self, other: Any) -> Any:
        return concat((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return concat((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: Any) -> TracedText:
        return self._like(str.__mul__(self, times), self.sources * times)

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        return _formatted(self, lambda form, inner: str.__mod__(form, inner), values)

    def format(self, *args: Any, **kwargs: Any) -> str:
        """As `str.format`; the caller has checked that the fields access no attribute."""
        return _formatted(self, lambda form, inner: str.format(form, *inner[0], **inner[1]), (args, kwargs))

    def join(self, items: Iterable[Any]) -> TracedText:
        parts: list[str] = []
        for item in items:
            parts += [self, item] if parts else [item]
        return concat(parts)

    def strip(self, chars: str | None = None) -> TracedText:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None) -> TracedText:
        left = len(str.lstrip(self, chars))
        return self._slice(len(self) - left, left)

    def rstrip(self, chars: str | None = None) -> TracedText:
        return self._slice(0, len(str.rstrip(self, chars)))

    def split(self, sep: str | None = None, maxsplit: Any = -1) -> list[Any]:
        return self._split(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: Any = -1) -> list[Any]:
        return self._split(str.rsplit(self, sep, maxsplit), sep)

    def _split(self, parts: list[str], sep: str | None) -> list[TracedText]:
        if sep is not None:
            return self._slices(parts, len(sep))
        found, position = [], 0
        for part in parts:
            position = self.index(part, position)
            found.append(self._slice(position, len(part)))
            position += len(part)
        return found

    def splitlines(self, keepends: bool = False) -> list[Any]:
        lines = self._slices(str.splitlines(self, True))
        stripped = str.splitlines(self, keepends)
        return [line._slice(0, len(kept)) for line, kept in zip(lines, stripped, strict=True)]

    def partition(self, sep: str) -> Any:
        return tuple(self._slices(str.partition(self, sep)))

    def rpartition(self, sep: str) -> Any:
        return tuple(self._slices(str.rpartition(self, sep)))

    def replace(self, old: str, new: str, count: Any = -1) -> str:
        if not old:
            return str.replace(self, old, new, count)
        return traced(new).join(self.split(old, count))

    def removeprefix(self, prefix: str) -> TracedText:
        left = len(str.removeprefix(self, prefix))
        return self._slice(len(self) - left, left)

    def removesuffix(self, suffix: str) -> TracedText:
        return self._slice(0, len(str.removesuffix(self, suffix)))

    def upper(self) -> TracedText:
        return self._mapped(str.upper)

    def lower(self) -> TracedText:
        return self._mapped(str.lower)

    def title(self) -> TracedText:
        return self._mapped(str.title)

    def capitalize(self) -> TracedText:
        return self._mapped(str.capitalize)

    def swapcase(self) -> TracedText:
        return self._mapped(str.swapcase)

    def casefold(self) -> TracedText:
        return self._mapped(str.casefold)

    def _mapped(self, function: Callable[[str], str]) -> TracedText:
        """Each character becomes one or more."""
        return self._like(*mapped_sources(function(self), self.sources, map(function, str.__iter__(self))))


class TracedMarkup(TracedText):
    """What the filter `safe` gives: adding another text to it escapes that text, as markupsafe's `Markup` does."""

    __slots__ = ()

    def __html__(self) -> TracedMarkup:
        return self

    def __str__(self) -> str:
        return TracedText.of(str.__str__(self), self.sources)

    def __add__(self, other: Any) -> Any:
        return self._added((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self._added((other, self)) if isinstance(other, str) else NotImplemented

    @staticmethod
    def _added(parts: Iterable[str]) -> TracedMarkup:
        both = concat(map(escaped, parts))
        return TracedMarkup.of(both, both.sources)


def traced(text: str) -> TracedText:
    """`text`; where it has no sources they are unknown."""
    return text if isinstance(text, TracedText) else TracedText.of(text, UNKNOWN)


def literal(text: str) -> TracedText:
    """The template's own text."""
    return TracedText.of(text, TEMPLATE)


def constant(value: Any) -> Any:
    """A constant of the template, with every text in it."""
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dict):
        return {constant(key): constant(item) for key, item in value.items()}
    return type(value)(map(constant, value)) if isinstance(value, list | tuple) else value


def concat(parts: Iterable[Any]) -> TracedText:
    """Texts one after the other; a part that is no string is an error, as for `str.join`."""
    pieces = [part if isinstance(part, TracedText) else traced("".join((part,))) for part in parts]
    return TracedText.of("".join(pieces), "".join([piece.sources for piece in pieces]))


def escaped(text: str) -> TracedText:
    """`text` with the characters of HTML escaped, except where it is markup already."""
    if hasattr(text, "__html__"):
        return traced(text)
    pieces = [_ESCAPES.get(one, one) for one in str.__iter__(text)]
    return TracedMarkup.of(*mapped_sources("".join(pieces), traced(text).sources, pieces))


def printed(value: Any) -> str:
    """A value as `{{ value }}` writes it."""
    if isinstance(value, str):
        return traced(str(value))
    if value is None or isinstance(value, bool | int | float):
        return literal(str(value))
    if isinstance(value, dict | list | tuple):
        return with_leaves(str, value, repr)
    return traced(str(value))


class Leaves:
    """The texts that a template is given, numbered; `owners[n]` is the message of number n, or None."""

    def __init__(self) -> None:
        self.owners: list[int | None] = []
        self._texts: list[str] = []

    def wrap(self, value: Any, owner: int | None) -> Any:
        """`value` with every text in it, keys included, as `TracedText` of a source of its own."""
        if isinstance(value, str):
            if len(self.owners) >= _MAX_LEAVES:
                raise ValueError(f"a conversation of more than {_MAX_LEAVES:,} texts")
            self.owners.append(owner)
            self._texts.append(value)
            return TracedText.of(value, chr(_FIRST_LEAF + len(self.owners) - 1))
        if isinstance(value, Mapping):
            return {self.wrap(key, owner): self.wrap(item, owner) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.wrap(item, owner) for item in value]
        return value

    def runs(self, text: str) -> list[tuple[int, int, bool]]:
        """Runs of characters of one source: the source (-1 the template's own, -2 unknown, else a leaf's number), the
        length, and whether the run repeats a part of its leaf that has been written before.
        """
        found, position, written = [], 0, dict[int, int]()
        for run in re.finditer(r"(.)\1*", traced(text).sources, re.DOTALL):
            source = ord(run[1]) - _FIRST_LEAF if run[1] > UNKNOWN else -1 - ord(run[1])
            part, position, repeats = text[position : position + len(run[0])], position + len(run[0]), False
            if source >= 0:
                leaf, cursor = self._texts[source], written.get(source, 0)
                place = leaf.find(part, cursor)
                repeats = place < 0 and part in leaf
                written[source] = cursor if place < 0 else place + len(part)
            found.append((source, len(run[0]), repeats))
        return found


def mapped_sources(text: str, sources: str, pieces: Iterable[str]) -> tuple[str, str]:
    """`text`, made of one piece for each character of `sources`, with the sources of its characters."""
    if len(text) == len(sources):
        return text, sources
    mapped = "".join(source * len(piece) for source, piece in zip(sources, pieces, strict=True))
    return text, mapped if len(mapped) == len(text) else UNKNOWN


def _formatted(form: TracedText, function: Callable[[str, Any], str], values: Any) -> str:
    """`form % values` or the like: the form's own text keeps its source where that is one."""
    outside = form.sources[:1] if form.sources[:1] * len(form) == form.sources else UNKNOWN
    plain = str.__str__(form)
    return with_leaves(lambda inner: function(plain, inner), values, None, outside=outside)


def with_leaves(
    function: Callable[[Any], str],
    value: Any,
    quoted: Callable[[str], str] | None,
    sort_keys: bool = False,
    outside: str = TEMPLATE,
) -> TracedText:
    """`function(value)`, followed by writing a random word in place of each text of `value`, and the text, `quoted`, in
    place of each word of the result. Where that gives another result, its sources are unknown.
    """
    nonce, leaves = secrets.token_hex(8), list[TracedText]()

    def mask(item: Any) -> Any:
        if isinstance(item, str):
            leaves.append(traced(item))
            return f"{nonce}x{len(leaves) - 1:09}x"
        if isinstance(item, Mapping):
            pairs = sorted(item.items()) if sort_keys else item.items()
            return {mask(key) if quoted else key: mask(one) for key, one in pairs}
        if isinstance(item, list | tuple):
            return type(item)(map(mask, item)) if type(item) in (list, tuple) else list(map(mask, item))
        return item

    result = function(value)
    quote = "" if quoted is None else quoted("")[0]
    pattern = re.compile(f"{quote}{nonce}x([0-9]+)x{quote}")
    try:
        parts = pattern.split(function(mask(value)))
    except Exception:  # such as an order of numbers and texts
        return TracedText.of(result, UNKNOWN)
    pieces: list[str] = [TracedText.of(parts[0], outside)]
    for number, following in zip(parts[1::2], parts[2::2], strict=True):
        leaf = leaves[int(number)]
        inner = leaf if quoted is None else _quoted(leaf, quoted)
        pieces += [inner, TracedText.of(following, outside)]
    whole = concat(pieces)
    return whole if whole == result else TracedText.of(result, UNKNOWN)


def _quoted(leaf: TracedText, quoted: Callable[[str], str]) -> TracedText:
    text = quoted(str.__str__(leaf))
    inner, sources = text[1:-1], leaf.sources
    if len(inner) != len(sources):
        pieces = [quoted(one)[1:-1] for one in str.__iter__(leaf)]
        sources = mapped_sources(inner, sources, pieces)[1] if "".join(pieces) == inner else UNKNOWN
    quotes = literal(text[:1])
    return concat((quotes, TracedText.of(inner, sources), quotes))
