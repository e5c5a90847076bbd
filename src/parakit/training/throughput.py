"""The peak FLOP/s of the device, and the FLOPs of a training step.

The peak is measured, not looked up in a table of devices: the fastest of several large square matrix products in the
run's precision. The FLOPs of a step follow from its shapes: active experts only, and the output matrix only at predicted
positions.
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
    input_ids_of,
)


@functools.cache
def measure_peak_flops(device_type: str, dtype: torch.dtype) -> float:
    """FLOP/s of large matrix products on this device in `dtype`. Takes about a quarter of a second."""
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


def training_flops(config: ModelConfig, batch: TrainingBatch) -> float:
    """FLOPs of the forward and backward pass of one micro-batch, padding included."""
    per_prediction = 6.0 * config.vocab_size * config.d_token
    if isinstance(batch, PairMicroBatch):
        assert isinstance(config, EncoderDecoderConfig)
        source, target = batch.source_ids, batch.input_ids
        per_source = config.encoder.flops_per_token(source.shape[1]) - per_prediction
        per_pair = config.flops_per_token(target.shape[1]) - per_prediction
        per_target = per_pair - (config.encoder.flops_per_token(target.shape[1]) - per_prediction)
        stacks = source.numel() * per_source + target.numel() * per_target
        return stacks + batch.n_counted * per_prediction
    inputs = batch.text_ids if isinstance(batch, TextPairMicroBatch) else [input_ids_of(batch)]
    stack = sum(ids.numel() * (config.flops_per_token(ids.shape[1]) - per_prediction) for ids in inputs)
    predicts_tokens = not isinstance(batch, LabelledMicroBatch | TextPairMicroBatch)
    return stack + batch.n_counted * per_prediction * predicts_tokens
