"""What the engine is doing: its queue, its cache, its speed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

N_RECENT = 1000  # requests whose time to the first token is averaged


@dataclass(frozen=True)
class EngineStatistics:
    """Counts of rows (completions), pages and tokens; times in seconds."""

    n_waiting: int
    n_running: int
    n_finished: int
    n_failed: int
    n_cancelled: int
    n_preempted: int
    """Rows that gave their pages to others and were computed again."""
    n_pages: int
    """Of all groups of layers; a page of a sliding window is one of its group."""
    n_pages_used: int
    n_pages_shared: int
    """Of the used ones, those that several rows hold."""
    n_pages_cached: int
    """Held by no row, with contents that can be used again or overwritten."""
    page_size: int
    memory_bytes: int
    """Of the whole cache."""
    memory_bound: int
    memory_source: str
    """Where the bound comes from."""
    cache_dtype: str
    n_prompt_tokens: int
    """Of the prompts that were started, and of rows that were started again."""
    n_shared_tokens: int
    """Of these, tokens that pages held already."""
    n_generated_tokens: int
    busy_seconds: float
    time_to_first_token: float | None
    """Median of the newest requests, from submission."""

    @property
    def tokens_per_second(self) -> float:
        """Generated, while there was something to do."""
        return self.n_generated_tokens / self.busy_seconds if self.busy_seconds > 0 else 0.0


class Counters:
    """What the engine counts as it goes."""

    def __init__(self) -> None:
        self.n_finished = self.n_failed = self.n_cancelled = self.n_preempted = self.n_generated = 0
        self.busy_seconds = 0.0
        self._first_tokens: deque[float] = deque(maxlen=N_RECENT)

    def add_first_token(self, seconds: float) -> None:
        """A request has got its first token after so long."""
        self._first_tokens.append(seconds)

    @property
    def time_to_first_token(self) -> float | None:
        """Median of the newest; None before the first."""
        ordered = sorted(self._first_tokens)
        return ordered[len(ordered) // 2] if ordered else None
