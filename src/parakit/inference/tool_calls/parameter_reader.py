"""The arguments of one call in a syntax of parameters, as they come: units in, JSON text out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from parakit.inference.tool_calls.parameters import ParameterSyntax, value_of
from parakit.inference.tool_calls.parts import Matcher, SyntaxParts, starts_with

_KEY_CHARACTERS = "_.-$"


class ParameterReader:
    """Begins behind the name of a function. `outcome`: None while the arguments come, then `end`, `join` (another call
    follows) or `none`: what comes is no call, or breaks off.
    """

    def __init__(self, syntax: ParameterSyntax, schema: Mapping[str, Any]) -> None:
        self._syntax, self._schema = syntax, schema.get("properties")
        self.has_begun = False
        """Whether the name is that of a call."""
        self.outcome: Literal["end", "join", "none"] | None = None
        self._state: Callable[[str | int], str] = self._begin
        self._matcher = Matcher(_alternatives(syntax.first, syntax.empty, syntax.empty_join))
        self._is_matching = False
        self._held: list[str | int] = []
        self._key = self._value = ""
        self._n_values = 0
        self._literal = _Literal()

    def push(self, unit: str | int) -> str:
        """The text of the arguments that has become certain."""
        return "" if self.outcome is not None else self._state(unit)

    def _begin(self, unit: str | int) -> str:
        matcher = self._matcher
        if matcher.push(unit):
            if not matcher.is_done:
                return ""
            if matcher.matched:
                self.has_begun, self.outcome = True, "end" if matcher.matched == 1 else "join"
                return "{}"
            self._begin_key()
            return ""
        if matcher.matched == 0:  # the beginning of an empty call is that of others
            self._begin_key()
            return self._state(unit)
        self.outcome = "none"
        return ""

    def _begin_key(self) -> None:
        self.has_begun, self._state, self._is_matching, self._key = True, self._in_key, False, ""
        self._matcher = Matcher([self._syntax.assign])

    def _in_key(self, unit: str | int) -> str:
        if not self._is_matching and isinstance(unit, str) and (unit.isalnum() or unit in _KEY_CHARACTERS):
            self._key += unit
            return ""
        self._is_matching = not (isinstance(unit, str) and unit.isspace())
        if not self._matcher.push(unit):
            self.outcome = "none"
        elif self._matcher.is_done:
            self._begin_value()
        return ""

    def _begin_value(self) -> None:
        self._state, self._value, self._held, self._literal = self._in_value, "", [], _Literal()

    def _in_value(self, unit: str | int) -> str:
        is_blank = isinstance(unit, str) and unit.isspace()
        if not self._held:
            if is_blank or (self._syntax.quote and not self._literal.is_outside):
                self._add(unit)
                return ""
            syntax = self._syntax
            self._matcher = Matcher(_alternatives(syntax.more, syntax.end, syntax.join))
        self._held.append(unit)
        if self._matcher.push(unit):
            return self._end_value() if self._matcher.is_done else ""
        held, self._held = self._held, []
        self._add(held[0])
        return "".join(self.push(one) for one in held[1:])

    def _add(self, unit: str | int) -> None:
        if isinstance(unit, str):
            self._value += unit
            self._literal.push(unit)

    def _end_value(self) -> str:
        schema = self._schema.get(self._key) if isinstance(self._schema, Mapping) else None
        value = json.dumps(value_of(self._value, schema, self._syntax), ensure_ascii=False)
        written = f"{', ' if self._n_values else '{'}{json.dumps(self._key, ensure_ascii=False)}: {value}"
        self._n_values += 1
        if self._matcher.matched == 0:
            self._begin_key()
            return written
        self.outcome = "end" if self._matcher.matched == 1 else "join"
        return written + "}"


def _alternatives(first: SyntaxParts, end: SyntaxParts, join: SyntaxParts | None) -> Sequence[SyntaxParts]:
    """What may come; a `join` that begins with the end is an end, behind which another call begins."""
    return [first, end] if join is None or starts_with(join, end) else [first, end, join]


class _Literal:
    """Whether a place in a Python literal, or in JSON, is outside of its quotes and brackets."""

    def __init__(self) -> None:
        self._depth, self._quote, self._escaped = 0, "", False

    @property
    def is_outside(self) -> bool:
        return not self._quote and self._depth == 0

    def push(self, one: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quote:
            self._escaped = one == "\\"
            self._quote = "" if one == self._quote else self._quote
        elif one in "'\"":
            self._quote = one
        elif one in "([{":
            self._depth += 1
        elif one in ")]}":
            self._depth -= 1
