"""Rankings of a step: numpy arrays, padded to the longest completion and to the most completions of a ranking.

R rankings, K completions of a ranking at most (best first), T tokens. What counts for the loss is the ranking, so
`n_counted` are rankings; `loss_mask` says which tokens are a completion's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankingBatch:
    """Targets are the inputs, one place ahead. A place [r, k] without a completion has no real token."""

    input_ids: np.ndarray  # (R, K, T) int64
    target_ids: np.ndarray  # (R, K, T) int64
    loss_mask: (
        np.ndarray
    )  # (R, K, T) bool, True = the target is a token of the completion, or its end of turn
    real_mask: np.ndarray  # (R, K, T) bool, True = no padding
    margins: np.ndarray  # (R,) float32
    n_counted: int  # rankings
    reference: np.ndarray | None = (
        None  # (R, K) float32, log-probabilities of the completions under the reference
    )
    share_prompts: bool = False
    """Whether what the completions of a ranking share passes the network once, for a model that `can_branch`."""
