"""Rows of rollouts as batches: what PPO's and GRPO's objectives are given, and the figures of their steps.

`weights` says how much each counted token's loss counts, so that one objective serves every way of dividing:
the step's sum is divided by `n_counted`, tokens or completions.

Shapes: B rows, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from parakit.tokens.batches.prefix_trees import pack_prefix_trees
from parakit.training.micro_batches import PrefixTreeInputs, branched, to_micro_batch


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Some rollouts of a phase, and what is to be learned from them."""

    input_ids: np.ndarray  # (B, T) int64
    target_ids: np.ndarray  # (B, T) int64
    loss_mask: np.ndarray  # (B, T) bool, True = the policy said it
    log_probs: np.ndarray  # (B, T) float32, of the policy that said it
    reference_log_probs: np.ndarray  # (B, T) float32
    advantages: np.ndarray  # (B, T) float32
    weights: np.ndarray  # (B, T) float32
    values: np.ndarray  # (B, T) float32; zeros where there is no value head
    returns: np.ndarray  # (B, T) float32
    n_counted: int
    share_prompts: bool = (
        False  # for a policy that `supports_prefix_tree`: prompts of neighbours are read once
    )


@dataclass(frozen=True, kw_only=True)
class RolloutMicroBatch:
    """The same as tensors on the device."""

    input_ids: Tensor
    target_ids: Tensor
    loss_mask: Tensor
    log_probs: Tensor
    reference_log_probs: Tensor
    advantages: Tensor
    weights: Tensor
    values: Tensor
    returns: Tensor
    n_counted: int
    branched: PrefixTreeInputs | None = None

    @property
    def n_tokens(self) -> int:
        """Positions that pass the network, padding included."""
        return (self.input_ids if self.branched is None else self.branched.input_ids).numel()

    @property
    def real_mask(self) -> Tensor:
        """(B, T), or as the rows of `branched`: bool, False = padding. Everything up to a row's last counted target is
        real.
        """
        if self.branched is not None:
            return self.branched.real_mask
        return self.loss_mask.flip(1).cumsum(1).flip(1) > 0


@to_micro_batch.register
def _rollouts(batch: RolloutBatch, device: torch.device, always_masked: bool = False) -> RolloutMicroBatch:
    named = {
        name: torch.from_numpy(value).to(device)
        for name, value in vars(batch).items()
        if isinstance(value, np.ndarray)
    }
    laid = branches_of(batch.input_ids, batch.loss_mask, device) if batch.share_prompts else None
    return RolloutMicroBatch(**named, n_counted=batch.n_counted, branched=laid)


def branches_of(input_ids: np.ndarray, loss_mask: np.ndarray, device: torch.device) -> PrefixTreeInputs:
    """Rows (B, T) of rollouts with the prompts of neighbours laid once."""
    lengths, n_prompt = counted_lengths(loss_mask), loss_mask.argmax(1) + 1
    return branched(pack_prefix_trees(input_ids, lengths, n_prompt), device)


def counted_lengths(loss_mask: np.ndarray) -> np.ndarray:
    """(B,): targets of each row up to its last counted one."""
    return loss_mask.shape[1] - np.argmax(loss_mask[:, ::-1], axis=1)


class StepMetrics:
    """Sums over the counted tokens of a step's micro-batches; an objective adds, the source and the log read."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._n = 0
        self._last: dict[str, float] = {}

    def add(self, n_tokens: int, **sums: Tensor) -> None:
        """The sums over `n_tokens` counted tokens of one micro-batch."""
        self._n += n_tokens
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())

    def close_step(self) -> dict[str, float]:
        """Means over the tokens of the step that just ended."""
        if self._n:
            self._last = {name: value / self._n for name, value in self._sums.items()}
        self._sums, self._n = {}, 0
        return self._last
