"""A tiny model in float64 and rankings of ids, for the losses that learn from preferences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from parakit.common.seeds import rng
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, RewardModel
from parakit.tokens.long_rows import LongRows
from parakit.tokens.preferences.encoding import RANKINGS, EncodedRankings

SHAPE: dict[str, Any] = {
    "vocab_size": 29, "d_model": 12, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 6, "d_ff": 16,
    "max_seq_len": 24,
}  # fmt: skip


def encoded(sizes: list[int], seed: int = 0) -> EncodedRankings:
    """One ranking of random ids for each of `sizes`, its completions sharing a prompt."""
    draw = rng(seed, "rankings")
    rows, prompts = [], []
    for size in sizes:
        prompt = draw.integers(3, 29, draw.integers(2, 6))
        for _ in range(size):
            rows.append(np.concatenate([prompt, draw.integers(3, 29, draw.integers(1, 7))]))
            prompts.append(len(prompt))
    return EncodedRankings(
        token_ids=np.concatenate(rows).astype(np.uint32),
        offsets=np.cumsum([0, *map(len, rows)]),
        prompt_lengths=np.array(prompts),
        first=np.cumsum([0, *sizes]),
        margins=draw.random(len(sizes)).astype(np.float32),
        pad_id=2,
        tokenizer_digest="",
        long_rows=LongRows(RANKINGS, 24, len(sizes)),
    )


def language_model(seed: int = 0, **changes: Any) -> LanguageModel:
    """With no zeros, in float64."""
    torch.manual_seed(seed)
    return _woken(LanguageModel(DecoderConfig(**SHAPE | changes)))


def reward_model(seed: int = 0, **changes: Any) -> RewardModel:
    """With no zeros, in float64."""
    torch.manual_seed(seed)
    return _woken(RewardModel(DecoderConfig(**SHAPE | changes)))


def _woken(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model.double().eval()
