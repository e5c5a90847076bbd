"""The leash: how far a policy has moved from its reference, and what that costs.

All estimates take the log ratio r = log policy - log reference at tokens that the policy said, and estimate the
divergence KL(policy || reference), which is never negative: k1 = r is unbiased, k2 = r^2 / 2 varies less and is
biased, k3 = exp(-r) - 1 + r is unbiased and never negative (Schulman 2020, "Approximating KL divergence").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ADAPTING = 0.1  # Ziegler et al. 2019, section 2.2
LARGEST_ERROR = 0.2


def kl_estimate(log_probs: Any, reference_log_probs: Any, estimator: str) -> Any:
    """The estimate at each token, of tensors or numpy arrays; zero where both are."""
    ratio = log_probs - reference_log_probs
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return ratio**2 / 2
    assert estimator == "k3", estimator
    grown = torch.expm1(-ratio) if isinstance(ratio, Tensor) else _expm1(-ratio)
    return grown + ratio


def _expm1(values: Any) -> Any:
    import numpy as np

    return np.expm1(values)


class KLController:
    """The coefficient of the penalty: fixed, or steered so that completions lie `target` nats from the reference
    (Ziegler et al. 2019, eq. 2, once a phase). Part of a checkpoint.
    """

    def __init__(self, coefficient: float, target: float | None = None) -> None:
        self.coefficient, self.target = coefficient, target

    def observe(self, kl: float) -> None:
        """Adapt to the nats a completion that a phase was found at."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
            self.coefficient *= 1 + ADAPTING * error
