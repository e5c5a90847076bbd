"""The group of all processes of a run, from the environment that `torchrun` sets."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from parakit.common.hardware import available_memory
from parakit.common.processes import local_world_size, rank, store, world_size

TIMEOUT = timedelta(minutes=30)  # of one collective: a process that waits longer has lost another


def start_process_group(device: torch.device) -> None:
    """Join the group, once in a process. Figures of the host travel by gloo, tensors of a card by NCCL."""
    if dist.is_initialized():
        return
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store(), rank=rank(), world_size=world_size(), timeout=TIMEOUT)
    atexit.register(_leave)


def memory_of_process(device: torch.device) -> int | None:
    """Bytes that each process of this machine can use; None where that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = available_memory()
    return None if found is None else found // local_world_size()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
