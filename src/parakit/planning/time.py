"""The largest model that a machine can train well in a given time.

Hoffmann et al. 2022 ("Chinchilla") found about twenty tokens per parameter compute-optimal; small models trained with
Muon for a few epochs do best with fewer. The largest size is chosen that sees `TOKENS_PER_PARAMETER` in the time within
`MAX_EPOCHS` epochs.
"""

from __future__ import annotations

from parakit.common.settings import Family
from parakit.model.config import ModelConfig
from parakit.model.model_choices import ModelChoices
from parakit.model.presets import ModelSizing, config_for_size

TOKENS_PER_PARAMETER = 12
MAX_EPOCHS = 8
# The share of the measured peak FLOP/s that training steps reach (benchmarks/results): a first guess, before steps are
# timed.
SHARE_OF_PEAK = 0.4
SIZES = [round(3e5 * 1.25**i) for i in range(40)]  # 0.3 million to 1.8 billion


def choose_size(
    seconds: float,
    peak_flops: float,
    n_train_tokens: int,
    vocab_size: int,
    max_seq_len: int,
    family: Family = "decoder",
    architecture: str | None = None,
    choices: ModelChoices | None = None,
) -> ModelSizing:
    """The largest size that sees enough tokens in `seconds` on a machine of `peak_flops` FLOP/s, given `n_train_tokens`
    of text (of examples: sources and targets).
    """
    smallest = _smallest(vocab_size)
    best = config_for_size(smallest, vocab_size, max_seq_len, family, architecture, choices)
    for size in SIZES:
        if size < smallest:
            continue
        sizing = config_for_size(size, vocab_size, max_seq_len, family, architecture, choices)
        n_params = sizing.config.n_params()["total"]
        tokens = seconds * peak_flops * SHARE_OF_PEAK / training_flops_per_token(sizing.config, max_seq_len)
        if min(tokens, MAX_EPOCHS * n_train_tokens) < TOKENS_PER_PARAMETER * n_params:
            break
        best = sizing
    return best


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """FLOPs of training on one token; for an encoder-decoder the mean of a source token and a target token."""
    flops = config.flops_per_token(seq_len)
    return flops / 2 if config.family == "encoder-decoder" else flops


def _smallest(vocab_size: int) -> int:
    """The smallest size for a vocabulary, of about width 64."""
    return max(SIZES[0], 2 * 64 * vocab_size)
