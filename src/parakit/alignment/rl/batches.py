"""Batches of rollouts for the objectives of PPO and GRPO, and the metrics of their steps.

`weights` scales each counted token's loss, so that one objective serves every normalisation: the step's sum is divided by
`n_counted`, tokens or completions.

Shapes: B rows, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from parakit.common.processes import FigureSum
from parakit.tokens.batches.prefix_trees import pack_prefix_trees
from parakit.training.micro_batches import PrefixTreeInputs, prefix_tree_inputs, to_micro_batch

MIN_SHARED = 8  # tokens
WIDE_ROW = 2048  # tokens


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Some rollouts of a phase with their training targets."""

    input_ids: np.ndarray  # (B, T) int64
    target_ids: np.ndarray  # (B, T) int64
    loss_mask: np.ndarray  # (B, T) bool, True = a token of the completion
    log_probs: np.ndarray  # (B, T) float32, of the policy at rollout time
    reference_log_probs: np.ndarray  # (B, T) float32
    advantages: np.ndarray  # (B, T) float32
    weights: np.ndarray  # (B, T) float32
    values: np.ndarray  # (B, T) float32; zeros where there is no value head
    returns: np.ndarray  # (B, T) float32
    n_counted: int
    share_prompts: bool = False
    """Whether equal prompts of neighbouring rows pass the network once; needs a policy that `supports_prefix_tree`."""
    wide_trees: bool = False
    """Whether rows of them may be wide on a CPU: needs a policy that `attends_by_segment`."""


@dataclass(frozen=True, kw_only=True)
class RolloutMicroBatch:
    """A `RolloutBatch` as tensors on the device."""

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
    prefix_tree: PrefixTreeInputs | None = None

    @property
    def n_tokens(self) -> int:
        """Positions that pass the network, padding included."""
        return (self.input_ids if self.prefix_tree is None else self.prefix_tree.input_ids).numel()

    @property
    def real_mask(self) -> Tensor:
        """(B, T) bool, or of the shape of the prefix tree's rows; False = padding, after a row's last counted target."""
        if self.prefix_tree is not None:
            return self.prefix_tree.real_mask
        return self.loss_mask.flip(1).cumsum(1).flip(1) > 0


@to_micro_batch.register
def _rollouts(batch: RolloutBatch, device: torch.device, always_masked: bool = False) -> RolloutMicroBatch:
    tensors = {
        name: torch.from_numpy(value).to(device)
        for name, value in vars(batch).items()
        if isinstance(value, np.ndarray)
    }
    tree = None
    if batch.share_prompts:
        tree = prefix_tree_of(batch.input_ids, batch.loss_mask, device, batch.wide_trees)
    return RolloutMicroBatch(**tensors, n_counted=batch.n_counted, prefix_tree=tree)


def prefix_tree_of(
    input_ids: np.ndarray, loss_mask: np.ndarray, device: torch.device, wide: bool = False
) -> PrefixTreeInputs:
    """Rows (B, T) of rollouts as prefix trees: the prompt that neighbouring rows share occurs once, or what the prompts begin
    with alike. `wide`: in rows of up to `WIDE_ROW` tokens on a CPU, where attention skips what branches do not see.
    """
    lengths, n_prompt = counted_lengths(loss_mask), loss_mask.argmax(1) + 1
    n_shared = shared_lengths(input_ids, n_prompt)
    max_row = WIDE_ROW if wide and device.type == "cpu" else None
    return prefix_tree_inputs(pack_prefix_trees(input_ids, lengths, n_shared, max_row), device)


def shared_lengths(input_ids: np.ndarray, n_prompt: np.ndarray) -> np.ndarray:
    """(B,): how many tokens each row shares with neighbours: its prompt, where a neighbour has the same; else what all such
    rows begin with, a template's system turn for example.
    """
    prompts = [row[:n].tobytes() for row, n in zip(input_ids, n_prompt.tolist(), strict=True)]
    equal = np.array([one == other for one, other in pairwise(prompts)], dtype=bool)
    alone = np.flatnonzero(~(np.append(equal, False) | np.append(False, equal)))
    if len(alone) < 2:
        return n_prompt
    first = input_ids[alone[0], : n_prompt[alone].min()]
    same = (input_ids[alone, : len(first)] == first).all(0)
    n_same = int(same.argmin()) if not same.all() else len(first)
    n_shared = n_prompt.copy()
    if n_same >= MIN_SHARED:
        n_shared[alone] = n_same
    return n_shared


def counted_lengths(loss_mask: np.ndarray) -> np.ndarray:
    """(B,): targets of each row up to its last counted one."""
    return loss_mask.shape[1] - np.argmax(loss_mask[:, ::-1], axis=1)


class StepMetrics:
    """Sums over the counted tokens of a step's micro-batches: an objective adds, the source and the log read."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._n = 0
        self._last: dict[str, float] = {}

    def add(self, n_tokens: int, **sums: Tensor) -> None:
        """Add one micro-batch's sums over its `n_tokens` counted tokens."""
        self._n += n_tokens
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())

    def close_step(self, sum_figures: FigureSum = dict) -> dict[str, float]:
        """Token means of the step that just ended, over the processes of `sum_figures`."""
        sums = sum_figures(self._sums | {"": self._n})
        if n := sums.pop(""):
            self._last = {name: value / n for name, value in sums.items()}
        self._sums, self._n = {}, 0
        return self._last
