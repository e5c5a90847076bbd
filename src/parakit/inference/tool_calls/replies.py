"""A reply as reasoning and answer: of a whole completion, or of one that is being written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from parakit.inference.generation.completion import Completion
from parakit.inference.generation.text import CompletionStream
from parakit.inference.tool_calls.parsing import ToolCallStream
from parakit.inference.tool_calls.reasoning import ReasoningDelta, reasoning_syntax
from parakit.tokens.chat.template import response_prefix
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class ReadReply:
    """The answer, and the reasoning before it: "" where there is none. `n_reasoning_tokens` counts its marks too."""

    text: str
    reasoning: str = ""
    n_reasoning_tokens: int = 0

    @property
    def pieces(self) -> tuple[str | ReasoningDelta, ...]:
        """As a stream has them."""
        return (ReasoningDelta(self.reasoning), self.text) if self.reasoning else (self.text,)


def read_reply(tokenizer: Tokenizer, token_ids: Sequence[int], stop: Sequence[str] = ()) -> ReadReply:
    """A completion of a conversation taken apart."""
    parts = _parts(tokenizer, stop)
    for token_id in token_ids:
        parts.push(token_id)
    parts.finish()
    return _so_far(parts)


class ReplyStream:
    """A completion of a conversation while it grows: iterate for the text of the answer and `ReasoningDelta`s before it;
    `reply` and `completion` are what there is so far.
    """

    def __init__(self, tokenizer: Tokenizer, pieces: CompletionStream, stop: Sequence[str] = ()) -> None:
        self._parts, self._pieces = _parts(tokenizer, stop), pieces
        self._n_read = 0

    def __iter__(self) -> Iterator[str | ReasoningDelta]:
        for _ in self._pieces:
            yield from self._read()
        yield from self._read()
        yield from _shown(self._parts.finish())

    def _read(self) -> Iterator[str | ReasoningDelta]:
        new = self._pieces.token_ids[self._n_read :]
        self._n_read += len(new)
        for token_id in new:
            yield from _shown(self._parts.push(token_id))

    @property
    def reply(self) -> ReadReply:
        """What there is so far."""
        return _so_far(self._parts)

    @property
    def completion(self) -> Completion:
        """The completion so far, its text that of the answer."""
        found = self._pieces.completion
        return replace(found, text=self.reply.text) if self.reply.reasoning else found


def _parts(tokenizer: Tokenizer, stop: Sequence[str]) -> ToolCallStream:
    prefix, syntax = response_prefix(tokenizer), reasoning_syntax(tokenizer)
    return ToolCallStream(tokenizer, None, stop=stop, prefix=prefix, reasoning=syntax)


def _so_far(parts: ToolCallStream) -> ReadReply:
    found = parts.reasoning
    return ReadReply(parts.text) if found is None else ReadReply(parts.text, found.text, found.n_tokens)


def _shown(events: Sequence[object]) -> Iterator[str | ReasoningDelta]:
    """Of a stream without calls."""
    for one in events:
        assert isinstance(one, str | ReasoningDelta)
        yield one
