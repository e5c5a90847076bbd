"""Functions in several processes, as torchrun would start them: forked, so that none imports torch again."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from torch.distributed import TCPStore, fsdp, tensor

from parakit.common import processes

IMPORTED = (fsdp, tensor)  # once, and not in every process


def in_processes(n: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(*arguments)` returns in each of `n` processes, by rank."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has
    children = [start_process(rank, n, server.port, work, arguments) for rank in range(n)]
    results = []
    for child, reader in children:
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        results.append(pickle.loads(data) if data else RuntimeError("killed"))
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def start_process(
    rank: int, n: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...], quiet: bool = False
) -> tuple[int, int]:
    """A child that does `work` as process `rank` of `n`, and a pipe with its pickled result."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where a library has threads
        child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(n),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(n),
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    processes.store.cache_clear()
    status = 1
    try:
        result = work(*arguments)
        processes.wait_for_all("end of a test")
        status = 0
    except BaseException as error:
        if not quiet:
            traceback.print_exc()
        result = RuntimeError(f"rank {rank}: {error!r}")
    with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
        pickle.dump(result, pipe)
    os._exit(status)
