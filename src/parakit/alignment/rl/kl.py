"""KL penalty: how far the policy is from its reference, and the coefficient of the penalty.

All estimators take the log ratio r = log policy - log reference at tokens sampled from the policy, and estimate
KL(policy || reference) >= 0: k1 = r is unbiased, k2 = r^2 / 2 has less variance and is biased, k3 = exp(-r) - 1 + r is
unbiased and never negative (Schulman 2020, "Approximating KL divergence").
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

GAIN = 0.1  # Ziegler et al. 2019, section 2.2
MAX_ERROR = 0.2

Values = TypeVar("Values", Tensor, np.ndarray)


def kl_estimate(log_probs: Values, reference_log_probs: Values, estimator: str) -> Values:
    """The estimate at each token, of tensors or arrays; zero where both log-probabilities are."""
    ratio = log_probs - reference_log_probs
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return ratio**2 / 2
    assert estimator == "k3", estimator
    grown = torch.expm1(-ratio) if isinstance(ratio, Tensor) else np.expm1(-ratio)
    return grown + ratio


class KLController:
    """The penalty's coefficient: fixed, or adapted once a phase so that the KL stays near `target` nats a completion
    (Ziegler et al. 2019, eq. 2). Part of a checkpoint.
    """

    def __init__(self, coefficient: float, target: float | None = None) -> None:
        self.coefficient, self.target = coefficient, target

    def update(self, kl: float) -> None:
        """Adapt to a phase's KL, in nats a completion."""
        if self.target is not None:
            error = min(max(kl / self.target - 1, -MAX_ERROR), MAX_ERROR)
            self.coefficient *= 1 + GAIN * error
