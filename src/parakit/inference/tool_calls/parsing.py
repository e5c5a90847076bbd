"""The calls in what a model writes, as it comes: token ids in, text and pieces of calls out.

A call is recognized by its syntax (`CallSyntax`), control tokens by their ids, so that text cannot forge one; white space of
the syntax may vary, because a model without the constraint writes it freely. What begins like a call and is none is text. A
call that the end of the completion cuts off stays as far as it came.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from parakit.inference.generation.text_stream import CharacterStream, StopStrings
from parakit.inference.tool_calls.parameter_reader import ParameterReader
from parakit.inference.tool_calls.parts import Matcher, SyntaxParts
from parakit.inference.tool_calls.reasoning import ReasoningDelta, ReasoningReader, ReasoningSyntax
from parakit.inference.tool_calls.syntax import CallSyntax
from parakit.inference.tool_calls.tools import Tool
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A piece of call `number`, from 0: the first has its id and name, each some text of its arguments."""

    number: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


CallEvent = str | CallDelta | ReasoningDelta
"""Text of the answer, a piece of a call, or of the reasoning before both."""


@dataclass
class ParsedCall:
    """A call: its id, its name, and its arguments as JSON text, which is incomplete where the completion was cut off."""

    id: str
    name: str
    arguments: str = ""
    is_complete: bool = False


def new_call_id() -> str:
    """An id that no other call has."""
    return f"call_{secrets.token_hex(12)}"


class _Json:
    """Where a JSON object ends."""

    def __init__(self) -> None:
        self._depth, self._in_string, self._escaped = 0, False, False

    def push(self, one: str) -> bool:
        """Whether the object is complete with this character."""
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped, self._in_string = one == "\\", one != '"'
        elif one == '"':
            self._in_string = True
        elif one in "{[":
            self._depth += 1
        elif one in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False


class ToolCallStream:
    """One completion. `push` each token id and `finish` at the end; `text` and `calls` are what has come so far.

    `syntax` None: there are no calls, all is text. A leading `prefix`, which the template writes before a response, is removed;
    text ends at a stop string. `reasoning`: how the model marks reasoning, which is then no part of the text.
    `tools`: those that may be called, whose schemas tell texts from other values where a call is no JSON.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        syntax: CallSyntax | None,
        *,
        stop: Sequence[str] = (),
        prefix: str = "",
        reasoning: ReasoningSyntax | None = None,
        tools: Sequence[Tool] = (),
    ) -> None:
        self._tokenizer, self._syntax = tokenizer, syntax
        self._characters = CharacterStream(tokenizer)
        self._stop = StopStrings(stop)
        marks = [
            *(syntax.all_parts if syntax else ()),
            *((reasoning.opening, reasoning.closing) if reasoning else ()),
        ]
        self._controls = {part for parts in marks for part in parts if isinstance(part, int)}
        self.reasoning = None if reasoning is None else ReasoningReader(reasoning, stop, _opening(syntax))
        self._prefix: str = prefix
        self._tools = {tool.name: tool for tool in tools}
        self._parameters: ParameterReader | None = None
        self._state = self._in_text
        self._held: list[str | int] = []
        """What may still become the beginning of a call."""
        self._matcher: Matcher | None = None
        self._name, self._json = "", _Json()
        self._events: list[CallEvent] = []
        self._blank = ""
        """White space that is text only where more text follows: models write some around calls."""
        self.text = ""
        self.calls: list[ParsedCall] = []

    def push(self, token_id: int) -> list[CallEvent]:
        """The events that have become certain."""
        units: Sequence[str | int]
        if token_id in self._controls:
            self._characters = CharacterStream(self._tokenizer)
            units = [token_id]
        else:
            units = self._without_prefix(self._characters.push(token_id))
        if self.reasoning is not None and not self.reasoning.is_over:
            thought, units = self.reasoning.push(units)
            if thought:
                self._events.append(ReasoningDelta(thought))
        self._read(units)
        return self._take()

    def finish(self) -> list[CallEvent]:
        """The remaining text."""
        if self.reasoning is not None and not self.reasoning.is_over:
            thought, units = self.reasoning.finish()
            if thought:
                self._events.append(ReasoningDelta(thought))
            self._read(units)
        self._release()
        self._say(self._stop.flush())
        if self._blank and not self.calls:
            self._events.append(self._blank)
            self.text += self._blank
        return self._take()

    def _read(self, units: Sequence[str | int]) -> None:
        if self._syntax is None:
            self._write("".join(one for one in units if isinstance(one, str)))
            return
        for one in units:
            self._state(one)

    def _take(self) -> list[CallEvent]:
        """The events so far, neighbours joined."""
        taken: list[CallEvent] = []
        for event in self._events:
            last = taken[-1] if taken else None
            if isinstance(event, str) and isinstance(last, str):
                taken[-1] = last + event
            elif (
                isinstance(event, CallDelta)
                and isinstance(last, CallDelta)
                and (event.number, event.name) == (last.number, None)
            ):
                taken[-1] = replace(last, arguments=last.arguments + event.arguments)
            else:
                taken.append(event)
        self._events = []
        return taken

    def _without_prefix(self, text: str) -> str:
        if self._prefix and text:
            common = self._prefix if text.startswith(self._prefix) else ""
            rest = self._prefix.removeprefix(text) if self._prefix.startswith(text) else ""
            self._prefix, text = rest, "" if rest else text.removeprefix(common)
        return text

    # --- states: each takes a character or a control token
    def _plain(self, unit: str | int) -> None:
        if isinstance(unit, str):
            self._write(unit)

    def _in_text(self, unit: str | int) -> None:
        """Free text, some of which may begin a call."""
        assert self._syntax is not None
        if self._matcher is None and self._syntax.trigger is None and self.text.strip():
            self._plain(unit)  # a call comes first, or not at all
            return
        matcher = self._matcher or Matcher([self._syntax.before])
        if self._matcher is None and isinstance(unit, str) and unit.isspace():
            self._write(unit)
            return
        if matcher.push(unit):
            self._matcher = matcher
            self._held.append(unit)
            if matcher.is_done:
                self._begin_name()
            return
        held = [*self._held, unit]
        if len(held) == 1:
            self._plain(unit)
            return
        self._matcher, self._held = None, []
        self._plain(held[0])
        for one in held[1:]:  # a later character may begin a call
            self._state(one)

    def _begin_name(self) -> None:
        self._name, self._matcher, self._state = "", None, self._in_name

    def _in_name(self, unit: str | int) -> None:
        assert self._syntax is not None
        self._held.append(unit)
        if self._matcher is None and isinstance(unit, str) and (unit.isalnum() or unit in "_.-"):
            self._name += unit
            return
        if not self._name and isinstance(unit, str) and unit.isspace():
            return
        if (parameters := self._syntax.parameters) is not None:
            schema = self._tools[self._name].schema if self._name in self._tools else {}
            self._parameters, self._state = ParameterReader(parameters, schema), self._in_parameters
            self._held.pop()
            self._in_parameters(unit)
            return
        matcher = self._matcher = self._matcher or Matcher([self._syntax.between])
        if not matcher.push(unit):
            self._state, self._matcher = self._in_text, None  # no call after all
            self._release()
        elif matcher.is_done:
            self._begin_call()
            self._state, self._matcher, self._json = self._in_arguments, None, _Json()

    def _begin_call(self) -> None:
        call = ParsedCall(new_call_id(), self._name)
        self._events.append(CallDelta(len(self.calls), "", call.id, call.name))
        self.calls.append(call)
        self._held, self._blank = [], ""

    def _in_parameters(self, unit: str | int) -> None:
        """Behind a name, where each argument has marks of its own."""
        reader = self._parameters
        assert reader is not None
        had_begun = reader.has_begun
        if not had_begun:
            self._held.append(unit)
        written = reader.push(unit)
        if reader.has_begun and not had_begun:
            self._begin_call()
        if written:
            self.calls[-1].arguments += written
            self._events.append(CallDelta(len(self.calls) - 1, written))
        if reader.outcome == "none":
            self._state = self._in_text
            self._release()
        elif reader.outcome is not None:
            self.calls[-1].is_complete, self._state = True, self._in_text
            if reader.outcome == "join":
                self._begin_name()

    def _in_arguments(self, unit: str | int) -> None:
        assert self._syntax is not None
        if not isinstance(unit, str):
            self._state = self._in_text  # arguments that a control token breaks off
            self._state(unit)
            return
        call = self.calls[-1]
        if not call.arguments and unit.isspace():
            return
        call.arguments += unit
        self._events.append(CallDelta(len(self.calls) - 1, unit))
        if self._json.push(unit):
            call.is_complete = True
            self._state = self._behind_call
            self._matcher = Matcher([self._syntax.after, *([self._syntax.join] if self._syntax.join else [])])

    def _behind_call(self, unit: str | int) -> None:
        """Between two calls, or at their end."""
        matcher = self._matcher
        assert matcher is not None
        if matcher.push(unit):
            if matcher.is_done:
                if matcher.matched == 1:
                    self._begin_name()
                else:
                    self._state, self._matcher = self._in_text, None
            return
        self._state, self._matcher = self._in_text, None
        self._state(unit)

    # --- text
    def _release(self) -> None:
        held, self._held = self._held, []
        self._write("".join(one for one in held if isinstance(one, str)))

    def _write(self, text: str) -> None:
        self._say(self._stop.push(text))

    def _say(self, text: str) -> None:
        if self._syntax is not None and (self._blank or text[-1:].isspace()):
            text = self._blank + text
            bare = text.rstrip()
            text, self._blank = bare, text[len(bare) :]
        if text:
            self.text += text
            self._events.append(text)


def _opening(syntax: CallSyntax | None) -> SyntaxParts | None:
    """What opens a call, whatever stands before it; None where only its place tells."""
    trigger = None if syntax is None else syntax.trigger
    return None if trigger is None else (trigger,)


def parse_calls(
    tokenizer: Tokenizer,
    syntax: CallSyntax,
    token_ids: Sequence[int],
    *,
    stop: Sequence[str] = (),
    prefix: str = "",
    tools: Sequence[Tool] = (),
) -> tuple[str, list[ParsedCall]]:
    """The text and the calls of a completion."""
    stream = ToolCallStream(tokenizer, syntax, stop=stop, prefix=prefix, tools=tools)
    for token_id in token_ids:
        stream.push(token_id)
    stream.finish()
    return stream.text, stream.calls
