"""The pieces of which a model's marks consist, such as those of a call or of reasoning: text, and control tokens as ids.

A matcher compares them with what a model writes, one unit at a time: a character, or the id of a control token. White space is
skipped, because a model without the constraint writes it freely.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from parakit.tokens.tokenizer.tokenizer import Tokenizer

SyntaxPart = str | int | None
"""Text, the id of a control token, or the place of a call's own id (9 letters and digits)."""
SyntaxParts = tuple[SyntaxPart, ...]
ID_LENGTH = 9  # of a call in templates that write it: Mistral's accept no other


def split_controls(tokenizer: Tokenizer, text: str, own_ids: Sequence[str] = ()) -> SyntaxParts:
    """The text with ids in place of control tokens, and None in place of `own_ids`, the ids of calls."""
    pattern, parts, position = tokenizer.control_pattern, list[SyntaxPart](), 0
    for match in pattern.finditer(text) if pattern is not None else ():
        parts += [text[position : match.start()], tokenizer.special_tokens[match[match.lastindex or 0]]]
        position = match.end()
    parts.append(text[position:])
    pieces: list[SyntaxPart] = []
    for part in parts:
        if isinstance(part, str):
            for i, piece in enumerate(re.split("|".join(own_ids), part) if own_ids else [part]):
                pieces += [None, piece] if i else [piece]
        else:
            pieces.append(part)
    return tuple(part for part in pieces if part != "")


class Matcher:
    """Compares what comes, one character or control token at a time, with alternatives of a syntax; white space is skipped on
    both sides.
    """

    def __init__(self, alternatives: Sequence[SyntaxParts]) -> None:
        self._open = {i: list(_units(parts)) for i, parts in enumerate(alternatives)}
        self.matched: int | None = None
        """The alternative that is complete; a longer one may still become so."""

    def push(self, unit: str | int) -> bool:
        """Whether the unit belongs to one of the alternatives."""
        if isinstance(unit, str) and unit.isspace():
            return True
        still = {i: rest[1:] for i, rest in self._open.items() if rest and _is_unit(rest[0], unit)}
        if not still:
            return False
        self._open = still
        self.matched = next((i for i, rest in still.items() if not rest), None)
        return True

    @property
    def is_done(self) -> bool:
        """Whether one is complete, and no longer one is possible."""
        return self.matched is not None and len(self._open) == 1


def starts_with(parts: SyntaxParts, beginning: SyntaxParts) -> bool:
    """Whether one begins as the other does, white space aside."""
    units, first = list(_units(parts)), list(_units(beginning))
    return units[: len(first)] == first


def behind(parts: SyntaxParts, mark: str | int) -> SyntaxParts:
    """What follows a mark."""
    for i, part in enumerate(parts):
        if part == mark:
            return parts[i + 1 :]
        if isinstance(part, str) and isinstance(mark, str) and mark in part:
            return (part.partition(mark)[2], *parts[i + 1 :])
    raise AssertionError("the mark is one of the parts")


def common_prefix(a: str, b: str) -> str:
    """The characters with which both texts begin."""
    n = next(
        (i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b))
    )
    return a[:n]


def literal(parts: SyntaxParts) -> str:
    """The parts in a grammar of llguidance."""
    written = (
        quoted(part)
        if isinstance(part, str)
        else f"/[A-Za-z0-9]{{{ID_LENGTH}}}/"
        if part is None
        else f"<[{part}]>"
        for part in parts
        if part != ""
    )
    return " ".join(written)


def quoted(text: str) -> str:
    """A text in a grammar of llguidance."""
    return json.dumps(text).replace("<", "\\u003c")


def _units(parts: SyntaxParts) -> Iterator[SyntaxPart]:
    for part in parts:
        if isinstance(part, str):
            yield from (one for one in part if not one.isspace())
        else:
            yield from [part] * (ID_LENGTH if part is None else 1)


def _is_unit(wanted: SyntaxPart, unit: str | int) -> bool:
    return isinstance(unit, str) and unit.isalnum() if wanted is None else wanted == unit
