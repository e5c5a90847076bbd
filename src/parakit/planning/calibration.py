"""What was measured of the machine at hand, and how speeds of other widths follow from it. Imports no torch.

A block of a Transformer reaches more FLOP/s the wider it is: its norms, activations and calls cost as much as its width,
its products as much as the square. So real blocks of some widths are timed (`stages/planning/measuring.py`), and a model's
blocks are taken to reach what lies between their neighbours on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from parakit.common.settings import Config

VERSION = 5  # of what is measured, and how


class BlockSpeed(Config):
    """FLOP/s that a block of this width reaches, counted over its matrices: in a forward pass, in training (forward and
    backward), in training adapters on frozen matrices, and in Muon's update of them. `row_width`: features of the
    feed-forward layer.
    """

    d_model: int
    forward: float
    train: float
    adapters: float
    muon: float


class MeasuredSpeeds(Config):
    """Speeds of one machine with one number of threads, in float32 unless another precision is named."""

    version: int = VERSION
    hardware: str
    n_threads: int
    blocks: tuple[BlockSpeed, ...] = Field(description="by width, ascending")
    bfloat16_gain: float = Field(default=1.0, description="speed of training in bfloat16 over float32")
    scores_forward: float = Field(description="FLOP/s of attention's scores and sums, forward")
    scores_train: float
    head_train: float = Field(description="FLOP/s of the output matrix in training, at wide vectors")
    logit_seconds: float = Field(description="of one logit in training, the matrix products left out")
    scored_training_logit_seconds: float | None = Field(
        default=None,
        description="the same where log-probabilities are wanted, as of preferences and rollouts, by PyTorch's operations",
    )
    divergence_seconds: float = Field(
        default=0.0,
        description="of one logit in distillation, on top of that: two distributions, and their gradient",
    )
    small_divergence_seconds: float = Field(
        default=0.0, description="the same of chunks of logits that stay in the processor's caches"
    )
    block_seconds: float = Field(
        default=0.0, description="of the calls of one block in training, however few tokens it sees"
    )
    block_step_seconds: float = Field(
        default=0.0,
        description="of one block in a step besides its passes: modes, clipping, an update of few numbers",
    )
    adamw_seconds: float = Field(description="of one parameter's update")
    decoding: tuple[tuple[float, float], ...] = Field(
        description="bytes that a decoding step reads, ascending, and bytes per second that it reaches for them"
    )
    decode_flops: tuple[tuple[float, float], ...] = Field(
        description="widths, ascending, and FLOP/s of each further sequence that is decoded at once"
    )
    draw_seconds: float = Field(description="of drawing a token, for each logit, the model left out")
    sequence_seconds: float = Field(
        default=0.0,
        description="of a token of one of many sequences in the engine, however small the model and its vocabulary",
    )
    rollout_seconds: float = Field(
        default=0.0,
        description="of starting to write many sequences: an engine, its cache, and short prompts",
    )
    scoring_flops: float | None = Field(
        default=None, description="FLOP/s of the engine where it scores completions; None: not measured"
    )
    scored_logit_seconds: float = Field(default=0.0, description="of a scored token, for each logit")
    scored_token_seconds: float = Field(default=0.0, description="of a scored token, however small the model")
    quantized_gain: float = Field(
        default=1.0, description="speed of adapters on matrices of 4 bits, over those of float32"
    )
    prefill_flops: float = Field(description="FLOP/s of reading prompts")
    process_bytes: int = Field(description="of a process that has loaded PyTorch and Parakit, and no model")
    peak_flops: float = Field(description="FLOP/s of a large matrix product in float32")

    def decoding_seconds(self, n_bytes: float) -> float:
        """Of a step that writes one token and reads so many bytes: between those that were timed the time grows evenly with
        the bytes, because calls take the same in all; beyond the ends as between the last two.
        """
        times = [(size, size / speed) for size, speed in self.decoding]
        if len(times) == 1:
            return n_bytes / self.decoding[0][1]
        index = next((i for i in range(1, len(times) - 1) if n_bytes <= times[i][0]), len(times) - 1)
        (x0, y0), (x1, y1) = times[index - 1], times[index]
        straight = y0 + (n_bytes - x0) * (y1 - y0) / (x1 - x0)
        fastest = max(speed for _, speed in self.decoding)
        return max(straight, n_bytes / fastest)

    def block_speed(self, kind: str, d_model: float) -> float:
        """FLOP/s of blocks of this width: `forward`, `train`, `adapters` or `muon`."""
        points = [(block.d_model, getattr(block, kind)) for block in self.blocks]
        return interpolate(points, d_model)


def interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at `x` on the straight line between its neighbours, both axes logarithmic; beyond the ends, that of the end."""
    first, last = points[0], points[-1]
    if x <= first[0]:
        return first[1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            share = (math.log(x) - math.log(x0)) / (math.log(x1) - math.log(x0))
            return math.exp((1 - share) * math.log(y0) + share * math.log(y1))
    return last[1]
