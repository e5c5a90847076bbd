"""The engine: many requests on one model at once, each with the tokens that it would get alone.

Every `step` runs one token of each completion that decodes, and chunks of prompts that are new (continuous batching: Yu et
al. 2022, "Orca"). Keys and values are in a `PagedCache` of bounded memory: what does not fit waits, and a request that could
never fit is refused. `submit` and `cancel` may come from any thread; steps run in the thread that calls `step`, `run` or
`stream`, or in the background between `start` and `stop`. A request that fails ends with its error; the others go on.

Shapes: C rows that choose a token, V vocabulary.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from typing import Any

import torch

from parakit.common.errors import UserError
from parakit.inference.cache_dtype import resolve_cache_dtype
from parakit.inference.capabilities import require_capability
from parakit.inference.engine.adapters import RowAdapters
from parakit.inference.engine.config import EngineConfig
from parakit.inference.engine.forward import ForwardPass, Predictions, Work
from parakit.inference.engine.memory import cache_memory
from parakit.inference.engine.paged_cache import PagedCache
from parakit.inference.engine.requests import Piece, Request, RequestHandle, Row
from parakit.inference.engine.scheduler import Scheduler
from parakit.inference.engine.statistics import Counters, EngineStatistics
from parakit.inference.engine.submission import RowMaker
from parakit.inference.engine.weights import digest_of
from parakit.inference.generation.completion import FinishReason
from parakit.inference.generation.sampling import Choice, choose_tokens
from parakit.model.adapters import AdapterSet
from parakit.model.heads import LanguageModel
from parakit.model.quantized import weight_like
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_IDLE_STEPS = 10  # a row that was preempted or begins again misses one


class QueueFull(UserError):
    """As many requests wait as may: the request can be submitted again later."""


class Engine:
    """Serves one model. Without a tokenizer requests have `token_ids` and completions no text."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        adapters: AdapterSet | None = None,
    ) -> None:
        require_capability(model, "generate")
        self.model, self.tokenizer, self.config = model, tokenizer, config or EngineConfig()
        weight = weight_like(model.lm_head)
        self.memory_bound, self.memory_source = cache_memory(self.config, weight.device)
        decoder: Any = model.trunk.config  # with prefix tuning `model.config` has a shorter window
        self.cache = PagedCache(
            decoder,
            memory_bytes=self.memory_bound,
            max_rows=self.config.max_rows,
            step_tokens=self.config.max_step_tokens,
            max_seq_len=self.config.max_seq_len,
            page_size=self.config.page_size,
            dtype=weight.dtype,
            cache_dtype=resolve_cache_dtype(model, self.config.cache_dtype),
            device=weight.device,
            share_prefixes=self.config.share_prefixes,
        )
        self._adapters = None if adapters is None else RowAdapters(model, adapters)
        self._salts: dict[str | None, bytes] = {}
        self._scheduler = Scheduler(self.cache, self.config, self._salts.__getitem__)
        self._forward = ForwardPass(model, self.cache, self._adapters)
        self._maker = RowMaker(model, tokenizer, self.cache, self._adapters)
        self._counters = Counters()
        self._n_requests = 0
        self._lock = threading.RLock()  # the queue and the rows; held shortly
        self._step_lock = threading.Lock()  # one step at a time
        self._in_step: set[int] = set()  # ids of the rows whose pages the step under way uses
        self._has_work = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._n_idle = 0  # steps in which no row could run

    # --- requests
    def submit(self, request: Request) -> RequestHandle:
        """Put a request into the queue. Raises `UserError` for one that can never run, or when the queue is full."""
        handle = self._maker.handle(request)
        with self._lock:
            self._n_requests += 1
            handle.number = self._n_requests
            if handle.rows[0].limit == 0:  # the prompt fills the context window
                self._finish(handle.rows, "length")
                return handle
            n_waiting = len(self._scheduler.waiting)
            if n_waiting >= self.config.max_queue:
                raise QueueFull(
                    f"{n_waiting} requests wait, and the queue holds {self.config.max_queue}",
                    "submit the request again later, or raise max_queue",
                )
            handle.rows[0].siblings = handle.rows[1:]
            self._scheduler.waiting.push(handle.rows[0])
            self._has_work.notify_all()
        return handle

    def cancel(self, handle: RequestHandle) -> None:
        """End a request. What it holds is free at once, or at the end of the step that computes it just now."""
        with self._lock:
            if not handle.done:
                handle.is_cancelled = True
                self._counters.n_cancelled += 1
                self._finish([row for row in handle.rows if row.finish_reason is None], "interrupted")

    def stream(self, handle: RequestHandle) -> Iterator[Piece]:
        """The tokens of a request as they come, with the text that has become certain; runs steps where no thread does.

        Raises the request's error at its end. A request whose stream is left early is cancelled.
        """
        try:
            while True:
                done = handle.done
                if handle.pieces:
                    yield handle.pieces.popleft()
                elif done:
                    break
                elif self._thread is not None:
                    handle.wait_for_piece()
                else:
                    self.step()
            if handle.error is not None:
                raise handle.error
        finally:
            self.cancel(handle)

    def choices(self, request: Request) -> Generator[Choice, None, None]:
        """The tokens of a request for one completion, with their log-probabilities where it wants them; as `stream`."""
        handle = self.submit(request)
        [row] = handle.rows
        for n, _ in enumerate(self.stream(handle)):
            yield row.choices[n]

    # --- steps
    def run(self) -> None:
        """Steps until nothing waits or runs."""
        while self.step():
            pass

    def start(self) -> None:
        """Run steps in a thread of the background whenever there is something to do, until `stop`."""
        with self._lock:
            assert self._thread is None, "the engine runs already"
            self._stopping = False
            self._thread = threading.Thread(target=self._serve, name="parakit-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the background's thread after its step; requests that are not done stay where they are."""
        thread = self._thread
        if thread is not None:
            with self._lock:
                self._stopping = True
                self._has_work.notify_all()
            thread.join()
            self._thread = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block no step runs: others may use the model."""
        with self._step_lock:
            yield

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._has_work.wait_for(lambda: self._stopping or self._scheduler.has_work)
                if self._stopping:
                    return
            try:
                self.step()
            except Exception as error:  # nobody else would learn of it: those who wait do
                self._fail_all(error)

    def step(self) -> bool:
        """Compute the next tokens; False where nothing waits or runs."""
        with self._step_lock:
            started = time.perf_counter()
            with self._lock:
                if not self._scheduler.has_work:
                    return False
                if self._scheduler.waiting:
                    self._check_weights()
                planned = self._scheduler.plan()
                self._n_idle = 0 if planned else self._n_idle + 1
                assert self._n_idle < MAX_IDLE_STEPS, "rows wait for pages that nobody holds"
                self._in_step = {id(row) for row, _ in planned}
                works = [_work(row, n_new) for row, n_new in planned]
            self._compute([row for row, _ in planned], works)
            self._counters.busy_seconds += time.perf_counter() - started
            return True

    def _compute(self, rows: Sequence[Row], works: Sequence[Work]) -> None:
        """Run a step and record it; rows that ended meanwhile let go of their pages, however it ends."""
        try:
            found = self._run(rows, works)
            with self._lock:
                self._commit(rows, works, found)
        except BaseException:
            self._restart_recurrent(rows)
            raise
        finally:
            with self._lock:
                self._in_step = set()
                for row in rows:
                    if row.finish_reason is not None:
                        self._scheduler.leave(row)
                if not self._scheduler.has_work:
                    self._scheduler.waiting.settle()

    def _run(self, rows: Sequence[Row], works: Sequence[Work]) -> list[Predictions]:
        """The logits of a step. Where the model fails on all rows together, each is tried alone."""
        try:
            return self._forward.run(works)
        except Exception as error:
            if len(rows) == 1 or self.cache.is_recurrent:
                for row in rows:
                    self._fail(row.handle, error)
                return []
        found: list[Predictions] = []
        for i, (row, work) in enumerate(zip(rows, works, strict=True)):
            found += [one._replace(members=[i]) for one in self._run([row], [work])]
        return found

    @torch.inference_mode()
    def _commit(self, rows: Sequence[Row], works: Sequence[Work], found: list[Predictions]) -> None:
        """Record what a step computed, and choose the next tokens of the rows whose tokens are all read."""
        for row, work in zip(rows, works, strict=True):
            if row.cache is not None and row.finish_reason is None:
                self.cache.commit(row.cache, work.token_ids)
                if row.index == 0:
                    n_read = min(row.cache.length, row.n_prompt)
                    row.handle.n_read_tokens = max(row.handle.n_read_tokens, n_read)
                self._scheduler.waiting.charge(row.handle.request.client, len(work.token_ids))
        now = time.perf_counter()
        for members, of_members, hidden in found:
            choosing: list[tuple[Row, int]] = []
            for place, i in enumerate(members):
                if rows[i].finish_reason is None:
                    choosing += [(row, place) for row in (rows[i], *self._scheduler.fork(rows[i]))]
            if not choosing:
                continue
            places = [place for _, place in choosing]
            if places != list(range(len(of_members))):
                of_members = of_members[torch.tensor(places, device=of_members.device)]
            choices = choose_tokens([row.sampler for row, _ in choosing], of_members)
            for (row, place), choice in zip(choosing, choices, strict=True):
                if hidden is not None and row.handle.request.keep_hidden:
                    choice = choice._replace(hidden=hidden[place])
                if choice.error is not None:
                    self._fail(row.handle, choice.error)
                elif row.finish_reason is None:
                    self._counters.n_generated += 1
                    if row.handle.first_token is None:
                        row.handle.first_token = now
                        self._counters.add_first_token(now - row.handle.submitted)
                    ended = row.accept(choice)
                    if ended is not None:
                        self._finish([row], ended)
                    elif self._thread is not None:
                        row.handle.notify()

    # --- ends
    def _finish(self, rows: Sequence[Row], reason: FinishReason) -> None:
        """Rows end; their pages are free unless the step under way uses them."""
        for row in rows:
            row.finish_reason = reason
            if id(row) not in self._in_step:
                self._scheduler.leave(row)
        handle = rows[0].handle
        if all(row.finish_reason is not None for row in handle.rows):
            self._counters.n_finished += not handle.is_cancelled and handle.error is None
            handle.close()
        elif self._thread is not None:
            handle.notify()

    def _fail(self, handle: RequestHandle, error: Exception) -> None:
        """A request ends with its error."""
        with self._lock:
            if not handle.done:
                handle.error = error
                self._counters.n_failed += 1
                for row in handle.rows:
                    row.is_broken = True
                self._finish([row for row in handle.rows if row.finish_reason is None], "interrupted")

    def _fail_all(self, error: Exception) -> None:
        """Every request ends with an error of the engine's own; the next ones find it working."""
        with self._lock:
            for handle in {row.handle for row in (*self._scheduler.running, *self._scheduler.waiting)}:
                self._fail(handle, error)

    def _restart_recurrent(self, rows: Sequence[Row]) -> None:
        """After an interruption within a pass states may be ahead of their rows: these are computed again."""
        with self._lock:
            for row in rows if self.cache.is_recurrent else ():
                if row.cache is not None:
                    self._scheduler.restart(row)

    def _check_weights(self) -> None:
        """Forget what other weights computed."""
        if self._adapters is None:
            salts: dict[str | None, bytes] = {
                None: digest_of(chain(self.model.parameters(), self.model.buffers()))
            }
        else:
            salts = self._adapters.salts()
        if salts != self._salts:
            self._salts.clear()
            self._salts.update(salts)
            self.cache.forget()
            self._forward.prepare()

    @property
    def n_failed(self) -> int:
        """Requests that ended with an error."""
        return self._counters.n_failed

    @property
    def statistics(self) -> EngineStatistics:
        """What the engine does now and has done so far."""
        with self._lock:
            counters, scheduler, cache = self._counters, self._scheduler, self.cache
            pools = [group.pool for group in cache.groups]
            return EngineStatistics(
                n_waiting=len(scheduler.waiting),
                n_running=len(scheduler.running),
                n_finished=counters.n_finished,
                n_failed=counters.n_failed,
                n_cancelled=counters.n_cancelled,
                n_preempted=scheduler.n_preempted,
                n_pages=sum(pool.n_pages for pool in pools),
                n_pages_used=sum(pool.n_held for pool in pools),
                n_pages_shared=sum(pool.n_shared for pool in pools),
                n_pages_cached=sum(pool.n_cached for pool in pools),
                page_size=cache.page_size,
                memory_bytes=cache.memory_bytes,
                memory_bound=self.memory_bound,
                memory_source=self.memory_source,
                cache_dtype=str(cache.dtype).removeprefix("torch."),
                n_prompt_tokens=scheduler.n_prompt_tokens,
                n_shared_tokens=scheduler.n_shared_tokens,
                n_generated_tokens=counters.n_generated,
                busy_seconds=counters.busy_seconds,
                time_to_first_token=counters.time_to_first_token,
            )


def _work(row: Row, n_new: int) -> Work:
    """The next tokens of a row; the logits after its last are wanted."""
    assert row.cache is not None
    start = row.cache.length
    token_ids = row.tokens[start : start + n_new]
    wants_logits = start + n_new == len(row.tokens)
    return Work(row.cache, token_ids, int(wants_logits), row.adapter, row.handle.request.keep_hidden)
