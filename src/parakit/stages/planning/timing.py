"""Timing of small pieces of work, and the models that they are made of."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from parakit.model.config import DecoderConfig
from parakit.model.presets import ARCHITECTURES

MAX_SEQ_LEN = 512
MAX_REPEATS = 200


def _clock() -> float:
    """Processor time of one thread, which waiting for others does not add to; with more threads, time on the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def typical_seconds(work: Callable[[], object], seconds: float) -> float:
    """What `work` takes, of repeats for about `seconds`, two at least, after one that is not counted: the slowest two thirds
    have met something else.
    """
    work()
    taken: list[float] = []
    while len(taken) < 2 or (sum(taken) < seconds and len(taken) < MAX_REPEATS):
        started = _clock()
        work()
        taken.append(_clock() - started)
    return max(1e-9, sorted(taken)[len(taken) // 3])


def default_config(width: int, n_layers: int, vocab_size: int = 64) -> DecoderConfig:
    """Of the default architecture."""
    config = ARCHITECTURES["qwen3"][1](width, vocab_size, MAX_SEQ_LEN, 0)
    assert isinstance(config, DecoderConfig)
    return config.replace(n_layers=n_layers)
