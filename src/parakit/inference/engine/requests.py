"""A request to the engine, its handle, and each of its completions while it runs.

A request asks for `n` completions of one prompt. Each is a `Row` with a seed, a sampler, a stream of text and, while it
runs, a row of the cache. The handle is what the caller holds: it can be waited for, streamed and cancelled from any thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from parakit.inference.config import SamplingConfig
from parakit.inference.engine.paged_cache import CacheRow
from parakit.inference.generation.completion import Completion, FinishReason, Prompt
from parakit.inference.generation.rules import GenerationRules
from parakit.inference.generation.sampling import Choice, RequestSampler, TokenConstraint
from parakit.inference.generation.text_stream import TextStream


class StopCheck(Protocol):
    """A reason to stop that a single id does not show, such as a stop string.

    `confirms` runs only for rows whose newest token is in `suspects`; None: for all rows.
    """

    suspects: Collection[int] | None

    def confirms(self, token_ids: Sequence[int]) -> bool:
        """Whether a completion of these ids has ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to complete, and how. Either `prompt`, a text or the messages of a conversation, or its `token_ids`."""

    prompt: Prompt | None = None
    token_ids: Sequence[int] | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int | Sequence[int] | None = None
    """Of all completions together, or one of each; None: from `sampling.seed`, else a random one."""
    n: int | None = None
    """Completions of this prompt, which is computed once; None: `sampling.n`."""
    priority: int = 0
    """Requests of a higher priority leave the queue first."""
    client: str = ""
    """Whose request it is: clients of equal priority get equal shares."""
    adapter: str | None = None
    """The name of an adapter; None: the one that is attached when the request comes, or the base."""
    constraint: Callable[[], TokenConstraint] | None = None
    """Makes what a completion must obey; called once for each of them, when the request is submitted."""
    stop_ids: Collection[int] | None = None
    """Ids that end a completion; None: the tokenizer's."""
    stop_check: StopCheck | None = None
    """A further reason to stop. Stop strings of `sampling` need none where the engine has a tokenizer."""
    rules: GenerationRules | Literal["published"] | None = "published"
    """What is demanded of every token: what the model's publisher set, or these; None: nothing."""
    response_prefix: str = ""
    """Removed from the beginning of completions: what the template of the conversation in `token_ids` writes before an
    answer. Of a `prompt` it is known.
    """
    on_change: Callable[[], object] | None = None
    """Called, in the thread of the steps, when there are new pieces and at the end. It must be short."""
    keep_hidden: bool = False
    """Whether each of `Row.choices` has the vector of `model.hidden` before it: for a head of the caller's own."""


class Piece(NamedTuple):
    """One more token of a request's completion of this number, and the text that has become certain with it."""

    number: int
    token_id: int
    text: str


class RequestHandle:
    """A submitted request: `done` at the end, with `completions`, or with `error`."""

    def __init__(self, request: Request, prompt_ids: list[int], n_dropped_tokens: int = 0) -> None:
        self.request, self.prompt_ids, self.number = request, prompt_ids, 0
        self.n_dropped_tokens = n_dropped_tokens
        self.rows: list[Row] = []
        self.error: Exception | None = None
        self.is_cancelled = False
        self.submitted = time.perf_counter()
        self.first_token: float | None = None
        self.finished: float | None = None
        self.n_cached_tokens = 0
        """Tokens of the prompt that the cache held when the request began to run."""
        self.n_read_tokens = 0
        """Tokens of the prompt that have been computed or were in the cache."""
        self.pieces: deque[Piece] = deque()
        """What `Engine.stream` has not given out yet."""
        self._changed = threading.Condition()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.finished is not None

    @property
    def completions(self) -> list[Completion]:
        """The completions so far; of a request that failed, raises its error."""
        if self.error is not None:
            raise self.error
        return [row.completion for row in self.rows]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until another thread's steps have finished the request; whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done, timeout)

    def wait_for_piece(self, timeout: float = 1.0) -> None:
        """Wait until there is a piece that nobody has taken, or the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.pieces or self.done, timeout)

    def notify(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()
        if self.request.on_change is not None:
            self.request.on_change()

    def close(self) -> None:
        """Nothing more will come."""
        self.finished = time.perf_counter()
        self.notify()


class Row:
    """One completion: all its tokens, the prompt's among them, and what has become of it."""

    def __init__(
        self,
        handle: RequestHandle,
        index: int,
        limit: int,
        sampler: RequestSampler,
        stop_ids: Collection[int],
        text: TextStream | None,
        adapter: str | None,
    ) -> None:
        self.handle, self.index, self.limit, self.sampler = handle, index, limit, sampler
        self.stop_ids, self.text, self.adapter = stop_ids, text, adapter
        self.tokens = list(handle.prompt_ids)
        self.n_prompt = len(handle.prompt_ids)
        self.cache: CacheRow | None = None
        """Where the row runs; None while it waits."""
        self.is_waiting = self.is_broken = False
        self.finish_reason: FinishReason | None = None
        self.siblings: list[Row] = []
        """Rows that fork from this one once the prompt is computed."""
        self.admitted = 0
        """Number of the admission: the youngest row gives way first."""
        self.choices: list[Choice] = []
        self._shown: list[str] = []

    @property
    def token_ids(self) -> list[int]:
        """The new tokens."""
        return self.tokens[self.n_prompt :]

    @property
    def n_pending(self) -> int:
        """Tokens that the cache lacks; one for a row that decodes."""
        return len(self.tokens) - (0 if self.cache is None else self.cache.length)

    def accept(self, choice: Choice) -> FinishReason | None:
        """The completion goes on with this token; the reason to stop, if it ends with it."""
        token_id = choice.token_id
        self.tokens.append(token_id)
        self.choices.append(choice)
        piece = "" if self.text is None else self.text.push(token_id)
        reason: FinishReason | None = None
        if token_id in self.stop_ids or (self.text is not None and self.text.stopped) or self._is_stopped():
            reason = "stop"
        elif len(self.tokens) - self.n_prompt >= self.limit:
            reason = "length"
        if reason is not None and self.text is not None:
            piece += self.text.finish()
        if piece:
            self._shown.append(piece)
        self.handle.pieces.append(Piece(self.index, token_id, piece))
        return reason

    def _is_stopped(self) -> bool:
        check = self.handle.request.stop_check
        if check is None or (check.suspects is not None and self.tokens[-1] not in check.suspects):
            return False
        return check.confirms(self.token_ids)

    @property
    def completion(self) -> Completion:
        """As far as it is."""
        handle = self.handle
        seconds = (handle.finished or time.perf_counter()) - handle.submitted
        reason = self.finish_reason or "interrupted"
        return Completion(
            "".join(self._shown),
            tuple(self.token_ids),
            self.n_prompt,
            reason,
            seconds,
            (handle.first_token or handle.submitted) - handle.submitted,
            tuple(self.choices) if self.sampler.config.log_probabilities is not None else (),
            n_dropped_tokens=handle.n_dropped_tokens,
        )
