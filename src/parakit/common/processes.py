"""The processes of one run: which of them this is, and how they wait for and tell one another.

`torchrun` and launchers like it describe them in environment variables (RANK, WORLD_SIZE, MASTER_ADDR and so on); without
these a run has one process, and every function here returns at once. Values go through torch's key-value store, not through
a process group: a wait takes as long as it has to, a signal ends it, and stages that use no network of tensors need none.
All processes call the same functions in the same order. Imports torch where there are several processes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from parakit.common.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

T = TypeVar("T")
FigureSum = Callable[[Mapping[str, float]], dict[str, float]]
"""The sum of each figure over some processes; `dict` for those of one."""
VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK"),
    *("ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
)
CONNECT_SECONDS = 900.0  # machines of a queue do not start at the same moment
LONGEST_PAUSE = 0.2  # between two looks at the store: what a wait adds at most
_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "NCCL", "Socket Timeout")
_is_alone = False
_counts: defaultdict[str, Iterator[int]] = defaultdict(
    itertools.count
)  # calls by name: each has its own keys


class ProcessFailed(UserError):
    """Another process of the run failed, so that this one cannot go on."""


def rank() -> int:
    """The number of this process in the run, from 0."""
    return int(os.environ.get("RANK", 0)) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes the run has."""
    return 1 if _is_alone else int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """The number of this process among those of its machine: the index of its accelerator."""
    return int(os.environ.get("LOCAL_RANK", 0)) if world_size() > 1 else 0


def local_world_size() -> int:
    """How many processes of the run are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world_size() > 1 else 1


def is_distributed() -> bool:
    """Whether the run has several processes."""
    return world_size() > 1


def is_first() -> bool:
    """Whether this is the process that prints, and writes what the run leaves behind."""
    return rank() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """During the block this process is the only one: for work that one process does while the others wait."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def restart_count() -> int:
    """How many times `torchrun --max-restarts` has started the processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def single_process_environment() -> dict[str, str]:
    """The environment for a program that is no process of this run."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in VARIABLES and not name.startswith("TORCHELASTIC_")
    }


@functools.cache
def store() -> Store:
    """The key-value store of the run's processes. `init_process_group(store=...)` must be given this one: there can be one
    server at MASTER_PORT.
    """
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {world_size()}, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
            "start the processes with torchrun, or unset WORLD_SIZE to run in one process",
        )
    from torch.distributed import PrefixStore, rendezvous

    try:
        found, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=CONNECT_SECONDS)))
    except RuntimeError as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(
            f"rank {rank()}: no connection to the first process at {address}: {str(error).splitlines()[0]}",
            "check MASTER_ADDR, and that MASTER_PORT is free and reachable from every machine",
        ) from None
    return PrefixStore(f"parakit/{_attempt()}", found)


def _attempt() -> str:
    """What tells the keys of a restarted run from those before: torchrun may keep its store. On many machines with a common
    id it makes a new one, and the machines count their restarts apart.
    """
    is_numbered = (
        os.environ.get("GROUP_WORLD_SIZE", "1") == "1" or os.environ.get("TORCHELASTIC_RUN_ID") == "none"
    )
    return str(restart_count()) if is_numbered else ""


def wait_for_all(name: str) -> None:
    """Return when every process has reached this point, which may take hours. `name` says what for, in errors."""
    if not is_distributed():
        return
    key = f"wait/{name}/{next(_counts[name])}"
    if _call(name, lambda: store().add(key, 1)) == world_size():
        _call(name, lambda: store().set(f"{key}/all", "1"))
    _wait(f"{key}/all", name)


def from_first(name: str, produce: Callable[[], T]) -> T:
    """What `produce` returns in the first process, in every process: a value that JSON can hold. Where it raises there, the
    others raise `ProcessFailed`.
    """
    if not is_distributed():
        return produce()
    key = f"first/{name}/{next(_counts[name])}"
    if not is_first():
        _wait(key, name)
        answer = json.loads(_call(name, lambda: store().get(key)))
        if "error" in answer:
            raise ProcessFailed(f"rank 0 failed ({name}): {answer['error']}")
        value: T = answer["value"]
        return value
    try:
        value = produce()
        sent = json.dumps({"value": value})
    except BaseException as error:
        message = str(error) or type(error).__name__
        _call(name, lambda: store().set(key, json.dumps({"error": message})))
        raise
    _call(name, lambda: store().set(key, sent))
    result: T = json.loads(sent)["value"]  # the same in every process: JSON has no tuples
    return result


def first_alone(name: str, work: Callable[[], T]) -> T:
    """As `from_first`, for work that would itself be shared among the processes: the first does all of it."""

    def produce() -> T:
        with alone():
            return work()

    return from_first(name, produce)


def in_turn(name: str, work: Callable[[], T]) -> T:
    """What `work` returns in each process. The first is through with it before the others begin, and what it left on the
    disk is there for them; where it raises, the others raise `ProcessFailed`.
    """
    if not is_distributed():
        return work()
    if not is_first():
        from_first(name, lambda: None)
        return work()
    found: list[T] = []
    from_first(name, lambda: found.append(work()))
    return found[0]


def finish() -> None:
    """Wait for all processes at the end of a command, where it had anything to do with the others: the first may hold the
    store that they read.
    """
    if is_distributed() and store.cache_info().currsize:
        wait_for_all("end")


def lost_process(error: RuntimeError) -> str | None:
    """What to say of an error that the end of another process has caused; None for any other."""
    first = textwrap.shorten(str(error), 120, placeholder="…")
    if not (type(error).__name__.startswith("Dist") or any(mark in str(error) for mark in _LOST)):
        return None
    return (
        f"rank {rank()}: another process of the run is gone ({first})\n"
        "  the messages of the one that failed first say why; the same command resumes the run"
    )


def gather(name: str, value: Any) -> list[Any]:
    """Every process's `value`, by rank, in every process: values that JSON can hold."""
    if not is_distributed():
        return [value]
    key = f"gather/{name}/{next(_counts[name])}"
    _call(name, lambda: store().set(f"{key}/{rank()}", json.dumps(value)))
    found = []
    for other in range(world_size()):
        _wait(f"{key}/{other}", name)
        found.append(json.loads(_call(name, functools.partial(store().get, f"{key}/{other}"))))
    return found


def _wait(key: str, name: str) -> None:
    """Return when `key` is set. Python code looks for it, so that a signal is acted on."""
    pause = 0.001
    while not _call(name, lambda: store().check([key])):
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _call(name: str, request: Callable[[], T]) -> T:
    """The answer of the store; `ProcessFailed` where the process that holds it is gone."""
    try:
        return request()
    except RuntimeError as error:
        raise ProcessFailed(
            f"rank {rank()}: the run's first process is gone ({name}): {str(error).splitlines()[0]}",
            "its own messages say why; the same command resumes the run",
        ) from None
