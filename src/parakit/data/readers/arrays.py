"""The rows of a JSON array, streamed: memory holds one row and the block of the file that it ends in."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from parakit.data.readers.encodings import SAMPLE
from parakit.data.readers.lines import RowStream, UnreadableFileError

_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_LITERAL = 16  # characters, "-Infinity" or "\\u1234\\u1234" cut by the end of a block
_AFTER_VALUE = tuple(" \t\r\n,]")
_HINT = "a JSON array of rows is [{...}, {...}]; JSON lines have one object a line"


class DuplicateKeyError(ValueError):
    """An object with one key twice, of which one value would be lost."""


def loads(text: str) -> Any:
    """The value of a JSON text; `ValueError` where it is none, or where an object has one key twice."""
    return _DECODER.decode(text)


def iter_array(stream: RowStream, max_row_bytes: int, errors: str = "strict") -> Iterator[tuple[int, Any]]:
    """Numbered rows (from 1) of a file that is one JSON array; `errors` is what is done with bytes that are not UTF-8.

    `UnreadableFileError` names the row where the array is damaged, ends early, or has a row over `max_row_bytes`.
    """
    text = _Buffer(stream, max_row_bytes, errors)
    text.expect("[", 0)
    number = 0
    if text.peek() == "]":
        text.expect("]", number)
    else:
        while True:
            number += 1
            yield number, text.value(number)
            if text.peek() == "]":
                text.expect("]", number)
                break
            text.expect(",", number)
    if text.peek():
        raise UnreadableFileError("not a JSON array", f"there is text after its end, row {number}", _HINT)


class _Buffer:
    """The part of the file's text from the place that is read."""

    def __init__(self, stream: RowStream, limit: int, errors: str) -> None:
        self._stream, self._limit = stream, limit
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self._text, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not a space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(SAMPLE, 0)

    def expect(self, character: str, number: int) -> None:
        """Move past `character`."""
        found = self.peek()
        if found != character:
            what = f"there is {found!r}" if found else "the file ends"
            raise UnreadableFileError(
                "not a JSON array", f"{what} after row {number}, not {character!r}", _HINT
            )
        self._at += 1

    def value(self, number: int) -> Any:
        """The value at this place."""
        self.peek()
        size = SAMPLE
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                rest = len(self._text) - end
                # a number may go on in the next block: 0 and then .5
                if rest > _LONGEST_LITERAL or self._text[end : end + 1] in _AFTER_VALUE or self._ended:
                    self._check_size(end - self._at, number)
                    self._at = end
                    if not rest or (isinstance(value, float | int) and self._text[end] not in _AFTER_VALUE):
                        self.expect("]", number)  # the file was cut: 1e+ of 1e+16 is no 1
                    return value
            except DuplicateKeyError as error:
                raise UnreadableFileError(
                    "a row is ambiguous", f"row {number}: {error}", "keep one of them"
                ) from None
            except (ValueError, RecursionError) as error:
                if self._ended or not self._is_unfinished(error):
                    raise UnreadableFileError("not JSON", f"row {number}: {error}", _HINT) from None
                self._check_size(len(self._text) - self._at, number)
            self._more(size, number)
            size *= 2  # so that a row of n bytes is parsed log n times

    def _more(self, size: int, number: int) -> None:
        block = self._stream.read(size)
        self._ended = not block
        try:
            following = self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError as error:
            raise UnreadableFileError(
                "not UTF-8", f"{error.reason}, in row {number + 1} or later", "save the file as UTF-8 (iconv)"
            ) from None
        self._text, self._at = self._text[self._at :] + following, 0

    def _check_size(self, n: int, number: int) -> None:
        if n > self._limit:
            detail = f"row {number} is over {self._limit:,} bytes"
            raise UnreadableFileError("a row is too long", detail, "cut its text, or remove it")

    def _is_unfinished(self, error: Exception) -> bool:
        """Whether the value may be whole once more of the file is read."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _LONGEST_LITERAL


def _first_twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError(pairs)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise DuplicateKeyError(f"the key {_first_twice(pairs)[:60]!r} is twice in one object")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)
