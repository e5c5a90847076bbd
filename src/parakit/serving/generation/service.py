"""Starts generations: opens the model, enters the meter, submits to the engine, and knows what runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.serving.errors import ShuttingDown
from parakit.serving.generation.call import GenerationCall, GenerationOutcome, Meter, MeterRow, Usage
from parakit.serving.generation.generation import Generation
from parakit.serving.generation.turns import AssistantTurn
from parakit.serving.models.registry import ModelUse, Registry

CONSTRAINED = ("json_schema", "regex", "grammar")
N_PREPARING = 4  # threads that render templates and encode prompts
OnEnd = Callable[[Generation], object]
Watched = Callable[[Generation], contextlib.AbstractAsyncContextManager[None]]
"""A block in which something may cancel a generation."""
Result = TypeVar("Result")


@dataclass
class MeteredWork:
    """A model in use, and the tokens that went through it. `outcome` and `seconds` are set at its end."""

    call: GenerationCall
    use: ModelUse
    kind: str
    """What it is for, in the log."""
    row: MeterRow | None
    stack: contextlib.AsyncExitStack
    """What is held: the model's place in memory, the meter's row."""
    usage: Usage = field(default_factory=Usage)
    outcome: GenerationOutcome = "failed"
    seconds: float = 0.0
    is_handed_over: bool = False
    """A generation has taken over the model and the row."""

    def hand_over(self) -> tuple[MeterRow | None, contextlib.AsyncExitStack]:
        """The row and what is held, for a generation that ends them."""
        self.is_handed_over = True
        return self.row, self.stack.pop_all()


class GenerationService:
    """What the forms of the API use to generate."""

    def __init__(self, registry: Registry, meter: Meter | None = None) -> None:
        self.registry, self.meter = registry, meter
        self.is_draining = False
        self.running: set[Generation] = set()
        self.on_end: list[OnEnd] = []
        """Called with each generation that has ended: the log, the metrics."""
        self.on_work: list[Callable[[MeteredWork], object]] = []
        """The same for work that generates nothing."""
        self._preparing = ThreadPoolExecutor(N_PREPARING, "parakit-prepare")
        self._compiling = ThreadPoolExecutor(1, "parakit-compile")  # a schema may take seconds
        self._idle = asyncio.Event()

    async def start(
        self, call: GenerationCall, work: MeteredWork | None = None, *, watched: Watched | None = None
    ) -> Generation:
        """A running generation, which the caller must `close`, whatever happens. `work`: of the same request, whose model
        and row it takes over. `watched`: the block in which each reply before the last is written, where a prompt has
        followups; a reply that is cancelled ends the request.

        Raises `UnknownModel`, `ContextOverflow`, `OutOfMemory`, `ShuttingDown`, the engine's `QueueFull`, and `UserError`
        for other requests that cannot run.
        """
        if work is not None:
            generation = Generation(call, work.use.served, work.use.adapter)
            generation.row, generation.stack = work.hand_over()
            await self._submit(generation)
            return generation
        if self.is_draining:
            raise ShuttingDown
        self.registry.resolve(call.model)
        async with contextlib.AsyncExitStack() as opening:
            # first of all: what a quota refuses loads no model
            row = await self._enter_meter(opening, call)
            call = await self.filled(call)
            use = await opening.enter_async_context(self.registry.open(call.model))
            earlier = Usage()
            if call.followups:
                call, earlier = await self._follow_up(call, use, row, watched)
            generation = Generation(call, use.served, use.adapter)
            generation.earlier = earlier
            generation.row, generation.stack = row, opening.pop_all()
        await self._submit(generation)
        return generation

    async def filled(self, call: GenerationCall) -> GenerationCall:
        """The call in the form of the prompt that its model's name ends with. `UserError` where the two do not fit."""
        prompt = self.registry.prompt_of(call.model)
        if prompt is not None:
            from parakit.serving.generation.prompt_filling import fill_prompt  # imports the prompts

            return await self.in_thread(fill_prompt, prompt, call)
        if call.prompt_values:
            raise UserError(
                f"prompt.variables: {call.model} is served without a prompt", f"name one: {call.model}:PROMPT"
            )
        if call.messages == ():
            raise UserError("messages: there are none", "send one of role user at least")
        return call

    async def _follow_up(
        self, call: GenerationCall, use: ModelUse, row: MeterRow | None, watched: Watched | None
    ) -> tuple[GenerationCall, Usage]:
        """The call for the last reply, after the replies before it, and what these used."""
        from parakit.serving.generation.prompt_filling import followed_up, last_reply, with_turn

        messages, earlier = call.messages or (), Usage()
        for number, followup in enumerate(call.followups):
            step = replace(followed_up(call, number), messages=messages)
            generation = Generation(step, use.served, use.adapter)
            await self._submit(generation, is_last=False)
            turn = AssistantTurn(generation)
            try:
                async with watched(generation) if watched else contextlib.nullcontext():
                    async for event in generation:
                        turn.read(event)
                        if row is not None:
                            row.count(earlier + generation.usage)
            finally:
                earlier += generation.usage
                if row is not None:
                    row.count(earlier)
                await generation.close()
            messages = with_turn(messages, turn.text, followup)
        return last_reply(call, messages), earlier

    async def _submit(self, generation: Generation, is_last: bool = True) -> None:
        """Hand a generation to the engine; one that fails is closed. `is_last`: its end is that of the request."""
        call = generation.call
        self.running.add(generation)
        self._idle.clear()
        generation.stack.callback(self._ended, generation, is_last)
        try:
            is_constrained = call.may_call or any(call.sampling.get(name) is not None for name in CONSTRAINED)
            await generation.submit(self._compiling if is_constrained else self._preparing)
        except BaseException as error:
            generation.is_refused = isinstance(error, UserError) and not generation.earlier.total_tokens
            await generation.close()
            raise

    async def _enter_meter(self, stack: contextlib.AsyncExitStack, call: GenerationCall) -> MeterRow | None:
        if self.meter is None:
            return None
        return await stack.enter_async_context(self.meter.meter(call.account, call))

    @contextlib.asynccontextmanager
    async def work(self, call: GenerationCall, kind: str = "embeddings") -> AsyncIterator[MeteredWork]:
        """The block of a request that uses a model before it generates, or without: the model is open, and `usage`, which
        the block sets, is metered, unless a generation takes the request over.
        """
        if self.is_draining:
            raise ShuttingDown
        self.registry.resolve(call.model)
        started = time.perf_counter()
        async with contextlib.AsyncExitStack() as stack:
            row = await self._enter_meter(stack, call)
            use = await stack.enter_async_context(self.registry.open(call.model))
            done = MeteredWork(call, use, kind, row, stack)
            try:
                yield done
                done.outcome = "finished"
            except asyncio.CancelledError:
                done.outcome = "cancelled"
                raise
            except UserError:
                done.outcome = "refused"
                raise
            finally:
                if not done.is_handed_over:
                    done.seconds = time.perf_counter() - started
                    if row is not None:
                        row.finish(done.usage, done.outcome)
                    for listener in self.on_work:
                        listener(done)

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run what takes milliseconds or more outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._preparing, function, *arguments)

    def _ended(self, generation: Generation, is_last: bool) -> None:
        self.running.discard(generation)
        if not self.running:
            self._idle.set()
        for listener in self.on_end if is_last else ():
            listener(generation)

    async def drain(self, seconds: float) -> int:
        """Take no new requests, and wait until those that run have ended, or so long; the rest is cancelled. Returns how
        many were cancelled.
        """
        self.is_draining = True
        deadline = time.monotonic() + seconds
        while self.running and (left := deadline - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), left)
            except TimeoutError:
                break
        cancelled = list(self.running)
        for generation in cancelled:
            generation.cancel()
        return len(cancelled)

    def close(self) -> None:
        """End the threads."""
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self._compiling.shutdown(wait=False, cancel_futures=True)
