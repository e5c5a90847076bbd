"""How fast the hardware can multiply, and what share of that a run uses.

The peak is measured, not looked up: a table names the wrong device sooner or later. Large square products
in the run's own precision, best of several. What a step multiplies is worked out from its shapes: of experts only
those that a token passes, the output matrix only where something is predicted.
"""

from __future__ import annotations

import functools
import time

import torch

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.training.micro_batches import (
    LabelledMicroBatch,
    PairMicroBatch,
    TextPairMicroBatch,
    TrainingBatch,
    tensors,
)


@functools.cache
def measured_peak_flops(device_type: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of large matrix products on this device, in `dtype`. Takes
    about a quarter of a second.
    """
    n = 8192 if device_type == "cuda" else 1024
    a = torch.randn(n, n, device=device_type).to(dtype)
    best = float("inf")
    deadline = time.perf_counter() + 0.25
    while time.perf_counter() < deadline or best == float("inf"):
        started = time.perf_counter()
        a @ a
        if device_type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def training_operations(config: ModelConfig, batch: TrainingBatch) -> float:
    """Operations of the forward and backward pass of one micro-batch; padding is multiplied, too."""
    per_prediction = 6.0 * config.vocab_size * config.d_model
    if isinstance(batch, PairMicroBatch):
        assert isinstance(config, EncoderDecoderConfig)
        source, target = batch.source_ids, batch.input_ids
        of_source = config.encoder.flops_per_token(source.shape[1]) - per_prediction
        of_both = config.flops_per_token(target.shape[1]) - per_prediction
        of_target = of_both - (config.encoder.flops_per_token(target.shape[1]) - per_prediction)
        in_stacks = source.numel() * of_source + target.numel() * of_target
        return in_stacks + batch.n_counted * per_prediction
    ids = [batch.first_ids, batch.second_ids] if isinstance(batch, TextPairMicroBatch) else [_first(batch)]
    in_stack = sum(one.numel() * (config.flops_per_token(one.shape[1]) - per_prediction) for one in ids)
    predicts_tokens = not isinstance(batch, LabelledMicroBatch | TextPairMicroBatch)
    return in_stack + batch.n_counted * per_prediction * predicts_tokens


def _first(batch: TrainingBatch) -> torch.Tensor:
    return next(iter(tensors(batch).values()))
