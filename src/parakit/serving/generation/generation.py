"""A generation while it runs: its tokens as an asynchronous iterator, without polling.

The engine's thread calls `_notify` for each step that gave a token; that wakes the event loop at most once until the loop has
taken what there is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import NamedTuple

from parakit.inference.config import SamplingConfig
from parakit.inference.engine.requests import RequestHandle
from parakit.inference.generation.completion import FinishReason
from parakit.inference.generation.sampling import Choice
from parakit.serving.errors import Interrupted
from parakit.serving.generation.call import GenerationCall, GenerationOutcome, MeterRow, Usage
from parakit.serving.models.served_model import ServedModel


class GenerationEvent(NamedTuple):
    """One more token of the completion of this number with the text that has become certain, or its end with a
    `finish_reason`.
    """

    number: int
    text: str = ""
    token_id: int | None = None
    choice: Choice | None = None
    """The token's log-probabilities, where the request wants them."""
    finish_reason: FinishReason | None = None


class Generation:
    """The completions of one `GenerationCall`: iterate over the events once, then `close`; `cancel` from anywhere."""

    def __init__(self, call: GenerationCall, served: ServedModel, adapter: str | None) -> None:
        self.call, self.served, self.adapter = call, served, adapter
        self.started = time.perf_counter()
        self.created = int(time.time())
        self.n_dropped_messages = self.n_dropped_tokens = 0
        """What the truncation policy left out of the prompt."""
        self.stack = AsyncExitStack()
        """What is held until the end: the model's place in memory, the meter's row."""
        self.row: MeterRow | None = None
        self.earlier = Usage()
        """Of the replies before this one that the same request needs."""
        self.is_closed = False
        self.is_refused = False
        """The engine did not take the request, by the user's mistake."""
        self._handle: RequestHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._is_notified = False
        self._is_cancelled = False
        self._final_usage: Usage | None = None

    async def submit(self, executor: object) -> None:
        """Hand the request to the engine; `UserError` where it cannot run."""
        work = self._loop.run_in_executor(executor, self._submit)  # type: ignore[arg-type]
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_cancelled = True  # where the thread is not done yet, it cancels what it submits
            self.cancel()
            raise

    def _submit(self) -> None:
        handle, fitted = self.served.submit(self.call, self.adapter, self._notify)
        self.n_dropped_messages, self.n_dropped_tokens = fitted.n_dropped_messages, fitted.n_dropped_tokens
        self._handle = handle
        if self._is_cancelled:
            self.served.require_engine().cancel(handle)

    def _notify(self) -> None:
        """In the engine's thread: something changed."""
        if not self._is_notified:
            self._is_notified = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._changed.set)

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        """Events in the order of the steps; the last of each completion has its `finish_reason`.

        Raises the engine's error of a request that failed, and `Interrupted` for one that was cancelled by the server.
        """
        handle = self._handle
        assert handle is not None, "submit comes first"
        wants_logs = [row.sampler.config.log_probabilities is not None for row in handle.rows]
        counts = [0] * len(handle.rows)
        open_rows = {row.index for row in handle.rows}
        while open_rows:
            self._changed.clear()
            self._is_notified = False
            ended = [(i, handle.rows[i].finish_reason) for i in sorted(open_rows)]
            is_done = handle.done
            if self.row is not None:
                self.row.count(self.usage)
            while handle.pieces:
                piece = handle.pieces.popleft()
                choice = handle.rows[piece.number].choices[counts[piece.number]]
                counts[piece.number] += 1
                yield GenerationEvent(
                    piece.number, piece.text, piece.token_id, choice if wants_logs[piece.number] else None
                )
            if handle.error is not None:
                raise handle.error
            for index, reason in ended:
                if reason is not None:
                    if reason == "interrupted" or self._is_cancelled:
                        raise Interrupted("the request was interrupted", "send it again")
                    open_rows.discard(index)
                    yield GenerationEvent(index, finish_reason=reason)
            if open_rows and not is_done:
                await self._changed.wait()
        if self.row is not None:  # before the client can know that its answer is whole
            self._final_usage = self.usage
            self.row.finish(self._final_usage, "finished")

    def cancel(self) -> None:
        """End the generation; what it holds in the engine is free after the step under way."""
        self._is_cancelled = True
        if self._handle is not None:
            self.served.require_engine().cancel(self._handle)
        self._changed.set()

    async def close(self) -> None:
        """Free what the generation holds, and record what it used; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        outcome = self.outcome
        self._final_usage = (
            self.usage
        )  # the ledger and the log have the same counts, whatever a step under way adds
        self.cancel()
        try:
            if self.row is not None:
                self.row.finish(self.usage, outcome)
        finally:
            await self.stack.aclose()

    # --- figures
    @property
    def outcome(self) -> GenerationOutcome:
        """What became of it so far."""
        handle = self._handle
        if handle is None:
            if self.is_refused:
                return "refused"
            return "cancelled" if self._is_cancelled else "failed"
        if handle.error is not None:
            return "failed"
        return "finished" if handle.done and not handle.is_cancelled else "cancelled"

    @property
    def usage(self) -> Usage:
        """What went through the model so far."""
        handle = self._handle
        if self._final_usage is not None:
            return self._final_usage
        if handle is None:
            return self.earlier
        n_generated = sum(len(row.tokens) - row.n_prompt for row in handle.rows)
        return self.earlier + Usage(handle.n_read_tokens, handle.n_cached_tokens, n_generated)

    @property
    def texts(self) -> list[str]:
        """Of the completions so far."""
        handle = self._handle
        return [] if handle is None else [row.completion.text for row in handle.rows]

    @property
    def seconds(self) -> float:
        """Since the start, or until the last token."""
        handle = self._handle
        end = handle.finished if handle is not None and handle.finished else time.perf_counter()
        return end - self.started

    @property
    def engine_seconds(self) -> float:
        """Since the submission to the engine, or until the last token."""
        handle = self._handle
        return 0.0 if handle is None else (handle.finished or time.perf_counter()) - handle.submitted

    @property
    def n_prompt_tokens(self) -> int:
        """Of the whole prompt, after truncation."""
        return 0 if self._handle is None else len(self._handle.prompt_ids)

    @property
    def sampling(self) -> SamplingConfig:
        """The settings with which the tokens are chosen."""
        return SamplingConfig() if self._handle is None else self._handle.request.sampling

    @property
    def response_prefix(self) -> str:
        """What the chat template writes before an answer."""
        return "" if self._handle is None else self._handle.request.response_prefix

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt's ids."""
        return [] if self._handle is None else self._handle.prompt_ids

    @property
    def seconds_to_first_token(self) -> float | None:
        """From the submission; None before it."""
        handle = self._handle
        if handle is None or handle.first_token is None:
            return None
        return handle.first_token - handle.submitted
