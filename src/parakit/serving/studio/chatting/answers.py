"""Answers to conversations, token by token, of a served model, through the server's own service.

Going on from a token needs its ids: the prompt's, then those of the answer up to the token. The text of the tokens is
decoded here in the same way as while streaming, so a character that spans two tokens belongs to the later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Message
from parakit.inference.config import SamplingSettings
from parakit.inference.generation.text_stream import TextStream
from parakit.inference.tool_calls.parsing import ToolCallStream
from parakit.inference.tool_calls.reasoning import reasoning_syntax
from parakit.serving.generation.call import GenerationCall
from parakit.serving.generation.service import GenerationService
from parakit.serving.studio.chatting.conversation_tree import AnswerToken
from parakit.serving.studio.chatting.distribution import N_READ, NextTokenView, next_token_view
from parakit.tokens.chat.template import response_prefix
from parakit.tokens.tokenizer.tokenizer import Tokenizer

N_ALTERNATIVES = 8


@dataclass
class AnswerFigures:
    """What an answer used; filled while it runs."""

    model: str
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_tokens: int = 0
    n_reasoning_tokens: int = 0
    """Of the answer's first tokens, those of reasoning."""
    context_window: int = 0
    """Tokens that the model can hold; 0 where it is not known."""
    seconds: float = 0.0
    seconds_to_first_token: float = 0.0
    finish_reason: str = "interrupted"
    n_dropped_messages: int = 0

    def to_json(self) -> JsonObject:
        """As it is saved with the turn."""
        return dict(self.__dict__)


@dataclass
class StreamedAnswer:
    """An answer while it grows: iterate over `AnswerSource.answer` and read it here."""

    figures: AnswerFigures
    tokens: list[AnswerToken] = field(default_factory=list)
    text: str = ""
    reasoning: str = ""
    """What the model wrote before the text."""


class AnswerSource(Protocol):
    """Something that answers conversations."""

    @property
    def name(self) -> str: ...

    def answer(
        self, messages: Sequence[Message], sampling: SamplingSettings, prefix: Sequence[int] = ()
    ) -> AsyncGenerator[StreamedAnswer, None]:
        """The answer after each token; it ends when the iteration is left. `prefix`: the ids with which it begins."""
        ...


class ServedModelSource:
    """A model that the server has. `account`: who pays for the answers, where the server has accounts."""

    def __init__(self, service: GenerationService, name: str, account: Any = None) -> None:
        self.service, self._name, self.account = service, name, account

    @property
    def name(self) -> str:
        return self._name

    async def answer(
        self, messages: Sequence[Message], sampling: SamplingSettings, prefix: Sequence[int] = ()
    ) -> AsyncGenerator[StreamedAnswer, None]:
        """Errors of the service, such as `UnknownModel` and `ContextOverflow`, come from the first iteration."""
        settings: SamplingSettings = {**sampling, "log_probabilities": N_ALTERNATIVES}
        call = self._call(messages, settings)
        if prefix:
            prompt = await self._prompt_ids(messages)
            call = replace(call, messages=None, token_ids=(*prompt, *prefix))
        generation = await self.service.start(call)
        try:
            served = generation.served
            decoder = _Decoder(served.tokenizer)
            answer = StreamedAnswer(AnswerFigures(self.name, context_window=served.max_seq_len))
            for token_id in prefix:
                answer.tokens.append(AnswerToken(token_id, decoder.push(token_id)))
            async for event in generation:
                if event.finish_reason is not None:
                    answer.figures.finish_reason = event.finish_reason
                    decoder.finish()
                elif event.token_id is not None:
                    answer.tokens.append(decoder.token(event.token_id, event.choice))
                decoder.describe(answer)
                _count(answer.figures, generation)
                yield answer
        finally:
            await generation.close()

    async def next_tokens(self, messages: Sequence[Message]) -> NextTokenView:
        """The distribution of the first token of an answer."""
        settings = SamplingSettings(temperature=0.0, max_new_tokens=1, log_probabilities=N_READ)
        call = self._call(messages, settings)
        generation = await self.service.start(call)
        try:
            tokenizer = generation.served.tokenizer
            async for event in generation:
                if event.choice is not None:
                    found = event.choice.alternatives
                    return next_token_view([(token_text(tokenizer, i), log) for i, log in found])
        finally:
            await generation.close()
        raise UserError(f"{self.name}: gave no token", "send the message again")

    def _call(self, messages: Sequence[Message], settings: SamplingSettings) -> GenerationCall:
        return GenerationCall(
            model=self.name,
            messages=_rows(messages),
            sampling=settings,
            when_full="drop_oldest",
            account=self.account,
        )

    async def _prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads of a conversation before its answer."""
        async with self.service.registry.open(self.name) as use:
            call = self._call(messages, SamplingSettings())
            fitted = await asyncio.to_thread(lambda: use.served.fit(call, use.served.sampling(call)))
            return list(fitted.token_ids)


class _Decoder:
    """Ids to the text that they make certain, the template's prefix of a response left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        prefix = response_prefix(tokenizer)
        self._stream = TextStream(tokenizer, (), prefix)
        self._parts = ToolCallStream(tokenizer, None, prefix=prefix, reasoning=reasoning_syntax(tokenizer))

    def push(self, token_id: int) -> str:
        self._parts.push(token_id)
        return self._stream.push(token_id)

    def finish(self) -> None:
        self._parts.finish()

    def describe(self, answer: StreamedAnswer) -> None:
        """Set what of the answer is reasoning, and what is its text."""
        answer.text = self._parts.text
        if self._parts.reasoning is not None:
            answer.reasoning = self._parts.reasoning.text
            answer.figures.n_reasoning_tokens = self._parts.reasoning.n_tokens

    def token(self, token_id: int, choice: Any) -> AnswerToken:
        """The token with its log-probability and alternatives, where they were wanted."""
        text = self.push(token_id)
        if choice is None or choice.log_probability is None:
            return AnswerToken(token_id, text)
        others = tuple((i, token_text(self.tokenizer, i), log) for i, log in choice.alternatives)
        return AnswerToken(token_id, text, choice.log_probability, others)


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token by itself: its text, or the name of a special one."""
    if token_id in tokenizer.control_ids:
        return tokenizer.token(token_id)
    return tokenizer.decode([token_id]) or tokenizer.token(token_id)


def _rows(messages: Sequence[Message]) -> tuple[JsonObject, ...]:
    return tuple(message.to_row() for message in messages)


def _count(figures: AnswerFigures, generation: Any) -> None:
    usage = generation.usage
    figures.n_prompt_tokens, figures.n_cached_tokens = generation.n_prompt_tokens, usage.cached_tokens
    figures.n_tokens, figures.seconds = usage.completion_tokens, generation.seconds
    figures.seconds_to_first_token = generation.seconds_to_first_token or 0.0
    figures.n_dropped_messages = generation.n_dropped_messages
