"""How much memory the cache may take."""

from __future__ import annotations

import torch

from parakit.common.hardware import available_memory
from parakit.inference.engine.config import EngineConfig

UNKNOWN_MEMORY = 2 * 2**30  # where the system does not say what is free


def cache_memory(config: EngineConfig, device: torch.device) -> tuple[int, str]:
    """The bound in bytes, and where it comes from, in words."""
    if config.memory_bytes is not None:
        return config.memory_bytes, "memory_bytes"
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    share = f"{config.memory_share:g} of"
    if free is None:
        return int(
            config.memory_share * UNKNOWN_MEMORY
        ), f"{share} 2 GiB: the system does not say what is free"
    return int(config.memory_share * free), f"{share} the free memory"
