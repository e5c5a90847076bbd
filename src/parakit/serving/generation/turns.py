"""The assistant's turns in a generation's events: reasoning, text, and pieces of calls of tools, for each completion."""

from __future__ import annotations

from parakit.inference.generation.text_stream import first_stop
from parakit.inference.tool_calls.parsing import CallEvent, ParsedCall, ToolCallStream
from parakit.inference.tool_calls.reasoning import reasoning_syntax
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.serving.generation.generation import Generation, GenerationEvent


class AssistantTurn:
    """One completion of a conversation as it grows: `read` its events in order."""

    def __init__(self, generation: Generation) -> None:
        self._tokenizer, sampling = generation.served.tokenizer, generation.sampling
        self._stop = sampling.stop
        # a constraint of the request's own holds for the whole turn, so the model writes its answer at once
        is_free = sampling.regex is None and sampling.grammar is None
        self._stream = ToolCallStream(
            self._tokenizer,
            call_syntax(self._tokenizer) if generation.call.may_call else None,
            stop=sampling.stop,
            prefix=generation.response_prefix,
            reasoning=reasoning_syntax(self._tokenizer) if is_free else None,
            tools=generation.call.tools,
        )
        self._token_ids: list[int] = []
        self.finish_reason: str | None = None
        """As OpenAI names it: stop, length, tool_calls."""
        self.is_reasoning = False
        """Whether the token that was read last is one of the reasoning."""

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._stream.text

    @property
    def calls(self) -> list[ParsedCall]:
        """The calls so far."""
        return self._stream.calls

    @property
    def reasoning(self) -> str:
        """The reasoning so far; empty where the model writes none."""
        return "" if self._stream.reasoning is None else self._stream.reasoning.text

    @property
    def n_reasoning_tokens(self) -> int:
        """Tokens of the reasoning, its marks included."""
        return 0 if self._stream.reasoning is None else self._stream.reasoning.n_tokens

    def read(self, event: GenerationEvent) -> list[CallEvent]:
        """The text and the pieces of reasoning and calls that have become certain."""
        found: list[CallEvent] = []
        if event.token_id is not None:
            n_before = self.n_reasoning_tokens
            self._token_ids.append(event.token_id)
            found = self._stream.push(event.token_id)
            self.is_reasoning = self.n_reasoning_tokens > n_before
        if event.finish_reason is not None:
            found = [*found, *self._stream.finish()]
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
