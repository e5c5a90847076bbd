"""Answers of an endpoint with OpenAI's API, piece by piece as it streams them, without probabilities.

The endpoint is read in a thread; an iteration that is left closes its connection with the next piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Sequence

from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.openai import OpenAIChatConfig, OpenAIChatModel
from parakit.inference.chat_models.openai_stream import AnswerPiece, stream_answer
from parakit.inference.config import SamplingSettings
from parakit.serving.studio.chatting.answers import AnswerFigures, StreamedAnswer


class EndpointSource:
    """An endpoint as a source of answers."""

    def __init__(self, url: str, model: str = "") -> None:
        self.model = OpenAIChatModel(OpenAIChatConfig(url=url, model=model or None, max_attempts=1))
        self.url = url

    @property
    def name(self) -> str:
        return self.model.config.model or self.url

    async def answer(
        self, messages: Sequence[Message], sampling: SamplingSettings, prefix: Sequence[int] = ()
    ) -> AsyncGenerator[StreamedAnswer, None]:
        """`UserError` for an endpoint that cannot be reached or refuses."""
        started = time.perf_counter()
        answer = StreamedAnswer(AnswerFigures(self.name))
        async with contextlib.aclosing(_pieces(self.model, messages, sampling)) as pieces:
            async for piece in pieces:
                figures = answer.figures
                figures.seconds = time.perf_counter() - started
                figures.seconds_to_first_token = figures.seconds_to_first_token or figures.seconds
                answer.text += piece.text
                answer.reasoning += piece.reasoning
                figures.finish_reason = piece.finish_reason or figures.finish_reason
                figures.n_prompt_tokens = piece.n_prompt_tokens or figures.n_prompt_tokens
                figures.n_tokens = piece.n_completion_tokens or figures.n_tokens
                yield answer


async def _pieces(
    model: OpenAIChatModel, messages: Sequence[Message], sampling: SamplingSettings
) -> AsyncGenerator[AnswerPiece, None]:
    """What a thread reads of the endpoint."""
    loop, found = asyncio.get_running_loop(), asyncio.Queue[AnswerPiece | Exception | None]()
    is_left = threading.Event()

    def put(one: AnswerPiece | Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(found.put_nowait, one)

    def on_piece(piece: AnswerPiece) -> bool:
        put(piece)
        return not is_left.is_set()

    def read() -> None:
        try:
            stream_answer(model, messages, sampling, on_piece)
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=read, name="studio-endpoint", daemon=True).start()
    try:
        while (one := await found.get()) is not None:
            if isinstance(one, Exception):
                raise one
            yield one
    finally:
        is_left.set()
