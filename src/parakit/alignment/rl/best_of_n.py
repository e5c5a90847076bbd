"""Best of n and rejection sampling: the baseline of methods that learn from rewards.

Of n completions the one with the highest reward is taken. Its expected reward for every n up to the number sampled has
an exact unbiased estimate, the mean of the best over all subsets of size n. The KL from the sampling model is at most
log n - (n - 1) / n nats (Stiennon et al. 2020, appendix G.3; proven by Beirami et al. 2024). Fine-tuning on the best ones
is rejection sampling (Touvron et al. 2023, section 3.2.3).

Shapes: P prompts, N completions of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from parakit.alignment.rl.prompts import SampledCompletion


def expected_best(rewards: np.ndarray, n: int, by: np.ndarray | None = None) -> float:
    """The mean reward of the best of `n`, from rewards (P, N), over all subsets of size n in closed form. `by` (P, N) are
    the scores that choose the best, such as a reward model's; none: the rewards themselves.
    """
    n_sampled = rewards.shape[1]
    assert 1 <= n <= n_sampled, (n, n_sampled)
    order = np.argsort(rewards if by is None else by, axis=1, kind="stable")
    ordered = np.take_along_axis(rewards, order, axis=1)
    n_subsets = math.comb(n_sampled, n)  # the i-th (from 0) is the best of comb(i, n - 1) subsets
    weights = np.array([math.comb(i, n - 1) / n_subsets for i in range(n_sampled)])
    return float((ordered @ weights).mean())


def kl_bound(n: int) -> float:
    """The largest KL of the best of `n` from the sampling model, in nats a completion."""
    return math.log(n) - (n - 1) / n


def best_of_n_curve(rewards: np.ndarray) -> list[dict[str, float]]:
    """`n`, `reward` and `kl_bound` for n = 1, 2, 4, ... and the number sampled."""
    n_sampled = rewards.shape[1]
    sizes = sorted({*(2**k for k in range(n_sampled.bit_length()) if 2**k <= n_sampled), n_sampled})
    return [{"n": n, "reward": expected_best(rewards, n), "kl_bound": kl_bound(n)} for n in sizes]


def best_samples(
    samples: Sequence[SampledCompletion], rewards: np.ndarray
) -> Iterator[tuple[SampledCompletion, float]]:
    """The best completion of each prompt with its reward, the first of equal ones. A prompt whose completions all have
    one reward is skipped.
    """
    for row, values in enumerate(rewards):
        if len(values) == 1 or values.max() > values.min():
            best = int(np.argmax(values))
            yield samples[row * len(values) + best], float(values[best])
