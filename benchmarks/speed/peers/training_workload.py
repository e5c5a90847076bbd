"""What all sides of `training_speed` do: the shapes, the rows, the settings, and how steps are timed.

Imports neither Parakit nor a peer.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Size:
    """A decoder of Qwen3's shape with tied embeddings, and its batch."""

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    n_rows: int
    seq_len: int
    n_warm: int
    n_timed: int

    @property
    def n_steps(self) -> int:
        """Of a run."""
        return self.n_warm + self.n_timed

    @property
    def n_params(self) -> int:
        """Tied embeddings counted once."""
        d, wide, narrow = self.d_model, self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        block = 2 * d * wide + 2 * d * narrow + 3 * d * self.d_ff + 2 * d + 2 * self.head_dim
        return self.vocab_size * d + self.n_layers * block + d

    @property
    def flops_per_token(self) -> float:
        """Forward and backward: six for each weight that multiplies, and the scores and sums of causal attention."""
        norms = self.n_layers * (2 * self.d_model + 2 * self.head_dim) + self.d_model
        pairs = self.seq_len / 2  # that a token attends to, on average
        return 6.0 * (self.n_params - norms) + 12.0 * self.n_layers * self.n_heads * self.head_dim * pairs


SIZES = {
    "tiny": Size(64, 16, 1, 2, 1, 8, 32, 2, 16, 1, 2),  # for the tests
    "1m": Size(4096, 128, 4, 4, 2, 32, 384, 8, 256, 3, 10),
    "10m": Size(8192, 288, 7, 9, 9, 32, 768, 4, 512, 2, 4),
    "100m": Size(32000, 768, 12, 12, 6, 64, 2048, 2, 512, 1, 2),
}
LEARNING_RATE, BETAS, GRAD_CLIP, ROPE_THETA, NORM_EPS = 1e-3, (0.9, 0.95), 1.0, 10_000.0, 1e-6


def rows(size: Size) -> np.ndarray:
    """(steps * rows, seq_len + 1) int64: other rows at every step, the same for all sides."""
    shape = (size.n_steps * size.n_rows, size.seq_len + 1)
    return np.random.default_rng(0).integers(0, size.vocab_size, shape)


class StepClock:
    """When each step began: a side calls it for every batch that it takes, and once at the end."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Note the moment, on the wall and in processor time, which other work on the machine changes less."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def figures(self) -> dict[str, float]:
        """The median step after the first ones: tokens a second on the wall, and of processor time."""
        marks = np.array(self.marks[self.size.n_warm :])
        wall, processor = np.median(np.diff(marks, axis=0), axis=0)
        n_tokens = self.size.n_rows * self.size.seq_len
        return {"tokens_per_second": n_tokens / wall, "tokens_per_processor_second": n_tokens / processor}


Train = Callable[[Size, Path, StepClock], float]


def run_side(train: Train) -> None:
    """Parse `SIZE FOLDER THREADS`, train, print the figures and the last loss as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    size = SIZES[arguments.size]
    clock = StepClock(size)
    loss = train(size, arguments.folder, clock)
    figures: dict[str, Any] = clock.figures() | {"loss": loss}
    print(json.dumps(figures))
