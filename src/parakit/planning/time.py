"""From a time to a size: which model a machine can train well in the seconds at hand.

Hoffmann et al. 2022 ("Chinchilla") put the compute-optimal run at about twenty tokens a parameter; small
models trained with Muon on text that is read a few times do best with fewer. The largest shape is taken
that still sees `TOKENS_PER_PARAMETER` in the time and reads no text more than `MAX_EPOCHS` times.
"""

from __future__ import annotations

from parakit.common.settings import Family
from parakit.model.config import ModelConfig
from parakit.model.presets import ModelSizing, config_for_size

TOKENS_PER_PARAMETER = 12
MAX_EPOCHS = 8
# Share of the measured matrix-product peak that whole training steps reach (benchmarks/results): only the
# first guess, steps are then timed.
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
) -> ModelSizing:
    """The largest size that learns enough in `seconds` on a machine of `peak_flops` FLOP/s, given
    `n_train_tokens` of text (of examples: sources and targets).
    """
    smallest = _smallest(vocab_size)
    best = config_for_size(smallest, vocab_size, max_seq_len, family, architecture)
    for size in SIZES:
        if size < smallest:
            continue
        plan = config_for_size(size, vocab_size, max_seq_len, family, architecture)
        n_params = plan.config.n_params()["total"]
        tokens = seconds * peak_flops * SHARE_OF_PEAK / training_flops_per_token(plan.config, max_seq_len)
        if min(tokens, MAX_EPOCHS * n_train_tokens) < TOKENS_PER_PARAMETER * n_params:
            break
        best = plan
    return best


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Operations of training on one token; of an encoder-decoder the mean of a source's and a target's."""
    flops = config.flops_per_token(seq_len)
    return flops / 2 if config.family == "encoder-decoder" else flops


def _smallest(vocab_size: int) -> int:
    """The smallest size that a vocabulary admits: width 64 or so."""
    return max(SIZES[0], 2 * 64 * vocab_size)
