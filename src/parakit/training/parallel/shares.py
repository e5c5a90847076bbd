"""Work on a list that the processes of a run share: each does a range of it, and all have the whole result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from parakit.common.processes import ProcessFailed, is_distributed, rank, world_size

T = TypeVar("T")


def shared(name: str, n: int, work: Callable[[slice], T]) -> list[T]:
    """What `work` returns for each process's range of `n` items, in the order of the items, in every process. A process
    without an item does nothing; where `work` raises, the other processes raise `ProcessFailed`.
    """
    if not is_distributed():
        return [work(slice(0, n))]
    import torch.distributed as dist

    part = slice(rank() * n // world_size(), (rank() + 1) * n // world_size())
    own: T | None = None
    failure: Exception | None = None
    try:
        own = work(part) if part.start < part.stop else None
    except Exception as error:
        failure = error
    message = None if failure is None else str(failure) or type(failure).__name__
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, (own, message))
    if failure is not None:
        raise failure
    for number, (_, text) in enumerate(found):
        if text is not None:
            raise ProcessFailed(f"rank {number} failed ({name}): {text}")
    return [result for result, _ in found if result is not None]
