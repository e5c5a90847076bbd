"""The assistant's turns in a generation's events: text, and pieces of calls of tools, for each completion."""

from __future__ import annotations

from parakit.inference.generation.text_stream import first_stop
from parakit.inference.tool_calls.parsing import CallEvent, ParsedCall, ToolCallStream
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.serving.generation.generation import Generation, GenerationEvent


class AssistantTurn:
    """One completion as it grows: `read` its events in order."""

    def __init__(self, generation: Generation) -> None:
        self._tokenizer, self._stop = generation.served.tokenizer, generation.sampling.stop
        self._calls: ToolCallStream | None = None
        if generation.call.messages is not None and generation.call.may_call:
            self._calls = ToolCallStream(
                self._tokenizer,
                call_syntax(self._tokenizer),
                stop=generation.sampling.stop,
                prefix=generation.response_prefix,
            )
        self._token_ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        """As OpenAI names it: stop, length, tool_calls."""

    @property
    def calls(self) -> list[ParsedCall]:
        """The calls so far."""
        return [] if self._calls is None else self._calls.calls

    def read(self, event: GenerationEvent) -> list[CallEvent]:
        """The text and the pieces of calls that have become certain."""
        if event.token_id is not None:
            self._token_ids.append(event.token_id)
        found: list[CallEvent]
        if self._calls is None:
            found = [event.text] if event.text else []
        else:
            found = [] if event.token_id is None else self._calls.push(event.token_id)
            if event.finish_reason is not None:
                found = [*found, *self._calls.finish()]
        self.text += "".join(one for one in found if isinstance(one, str))
        if event.finish_reason is not None:
            is_calling = event.finish_reason == "stop" and bool(self.calls)
            self.finish_reason = "tool_calls" if is_calling else event.finish_reason
        return found

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the turn, or None."""
        if not self._stop or self.finish_reason == "length":
            return None
        text = self._tokenizer.decode(self._token_ids)
        found = first_stop(text, self._stop)
        return None if found is None else text[found[0] : found[1]]
