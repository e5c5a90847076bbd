"""The largest model that a machine can train well in a given time.

Hoffmann et al. 2022 ("Chinchilla") found about twenty tokens per parameter compute-optimal; small models trained with
Muon for a few epochs do best with fewer. The largest size is chosen that sees `TOKENS_PER_PARAMETER` in the time within
`MAX_EPOCHS` epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parakit.common.settings import Family
from parakit.model.config import ModelConfig
from parakit.model.model_choices import ModelChoices
from parakit.model.presets import ModelSizing, config_for_size, n_params_of_width
from parakit.planning.choices import run_of
from parakit.planning.machines import UTILIZATION, Machine
from parakit.planning.step_time import step_seconds

TOKENS_PER_PARAMETER = 12
MAX_EPOCHS = 8
SMALLEST_WIDTH = 64
SIZES = [round(3e5 * 1.25**i) for i in range(40)]  # 0.3 million to 1.8 billion

TrainingSpeed = Callable[[ModelConfig], float]
"""Tokens per second of training a model of this config."""


def choose_size(
    seconds: float,
    speed: TrainingSpeed,
    n_train_tokens: int,
    vocab_size: int,
    max_seq_len: int,
    family: Family = "decoder",
    architecture: str | None = None,
    choices: ModelChoices | None = None,
) -> ModelSizing:
    """The largest size that sees enough tokens in `seconds` at `speed`, given `n_train_tokens` of text (of examples:
    sources and targets).
    """
    smallest = n_params_of_width(SMALLEST_WIDTH, vocab_size, max_seq_len, family, architecture)
    best = config_for_size(smallest, vocab_size, max_seq_len, family, architecture, choices)
    for size in SIZES:
        if size < smallest:
            continue
        sizing = config_for_size(size, vocab_size, max_seq_len, family, architecture, choices)
        n_params = sizing.config.n_params()["total"]
        if min(seconds * speed(sizing.config), MAX_EPOCHS * n_train_tokens) < TOKENS_PER_PARAMETER * n_params:
            break
        best = sizing
    return best


def speed_of_peak(peak_flops: float, seq_len: int) -> TrainingSpeed:
    """On a machine of which only the peak is known, in rows of `seq_len` tokens: a first guess."""
    return lambda config: peak_flops * UTILIZATION / training_flops_per_token(config, seq_len)


def speed_on(machine: Machine, seq_len: int, **settings: Any) -> TrainingSpeed:
    """As a plan for `machine` predicts it, in rows of `seq_len` tokens. `settings`: those of a run (`choices.run_of`)."""

    def speed(config: ModelConfig) -> float:
        spec = run_of(config, {"seq_len": min(seq_len, config.max_seq_len), **settings})
        return spec.n_tokens / step_seconds(spec, machine).total

    return speed


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """FLOPs of training on one token; for an encoder-decoder the mean of a source token and a target token."""
    flops = config.flops_per_token(seq_len)
    return flops / 2 if config.family == "encoder-decoder" else flops
