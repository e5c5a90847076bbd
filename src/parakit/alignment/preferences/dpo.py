"""Policies tuned on preferences without a reward model: DPO (Rafailov et al. 2023), its conservative form with smoothed
labels, IPO (Azar et al. 2023), and SimPO (Meng et al. 2024), which needs no reference.

A completion's implicit reward is kl_coef times the log ratio of policy and reference; rankings of more than two use the
Plackett-Luce likelihood (Rafailov et al., appendix A.3). The reference's log-probabilities are computed once, before
training and in evaluation mode, and are part of the batches.

Shapes: N completions, T tokens, D width, C counted tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from parakit.alignment.config import PreferenceLoss
from parakit.alignment.mean_metrics import MeanMetrics
from parakit.alignment.preferences.rankings import (
    ipo_loss,
    log_prob_rounding,
    pad_by_group,
    pair_margins,
    pairwise_accuracy,
    plackett_luce,
)
from parakit.alignment.preferences.shared_prefix import hidden_at
from parakit.common.progress import OnProgress
from parakit.model.heads import LanguageModel
from parakit.model.precision import at_least_float32
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import RankingMicroBatch, to_micro_batch
from parakit.training.objectives.fused_head_loss import can_fuse_log_probs, fused_log_probs
from parakit.training.objectives.routing import with_router_loss

KL_COEF: dict[PreferenceLoss, float] = {"dpo": 0.1, "ipo": 0.1, "simpo": 2.0}
ROWS_PER_FORWARD = 16  # rankings, of the reference; fewer of them where they are long
TOKENS_PER_FORWARD = 8192
MAX_WHOLE_LOGITS = 2**25  # more are computed twice, in chunks: the head then takes a quarter longer


def completion_log_probs(model: LanguageModel, batch: RankingMicroBatch) -> Tensor:
    """(N,) nats: the log-probability of each completion, its end of turn included, given its prompt."""
    return _log_probs(model, batch)[0]


def _log_probs(model: LanguageModel, batch: RankingMicroBatch) -> tuple[Tensor, Tensor]:
    """`completion_log_probs`, and the mask of the positions that passed the network."""
    hidden, real_mask = hidden_at(
        model, batch.input_ids, batch.loss_mask, batch.prefix_tree
    )  # (C, D); the prompt never passes the output matrix
    target_ids = batch.target_ids[batch.loss_mask]
    is_large = len(hidden) * model.config.vocab_size > MAX_WHOLE_LOGITS
    if is_large and can_fuse_log_probs(model, hidden):
        log_probs = fused_log_probs(model, hidden, target_ids)
    else:
        logits = at_least_float32(model.logits(hidden))
        log_probs = -functional.cross_entropy(logits, target_ids, reduction="none")
    rows = batch.loss_mask.nonzero()[:, 0]
    summed = log_probs.new_zeros(len(batch.input_ids)).index_add(0, rows, log_probs)
    return summed, batch.real_mask if real_mask is None else real_mask


class PreferenceObjective:
    """The summed loss of the rankings. `kl_coef` None: the loss's default. `margin` is SimPO's target margin, and an
    offset for the others (Amini et al. 2024). `metrics` are means since they were last popped.
    """

    def __init__(
        self,
        loss: PreferenceLoss = "dpo",
        kl_coef: float | None = None,
        label_smoothing: float = 0.0,
        margin: float = 0.0,
        row_margins: bool = False,
    ) -> None:
        self.loss, self.label_smoothing = loss, label_smoothing
        self.kl_coef = KL_COEF[loss] if kl_coef is None else kl_coef
        self.margin, self.row_margins = margin, row_margins
        self.metrics = MeanMetrics()

    def __call__(self, model: LanguageModel, batch: RankingMicroBatch) -> Tensor:
        log_probs, real_mask = _log_probs(model, batch)
        lengths = batch.loss_mask.sum(1)
        if self.loss == "simpo":
            rewards = self.kl_coef * log_probs / lengths
        else:
            assert batch.reference is not None, "the batch has no reference log-probabilities"
            log_ratios = log_probs - batch.reference.to(log_probs.dtype)
            rewards = self.kl_coef * log_ratios
            self._add_drift(log_ratios, batch, lengths)
        scores, present = pad_by_group(rewards, batch)
        margin = torch.full_like(scores[:, 0], self.margin)
        if self.row_margins:
            margin = margin + batch.margins
        rounding = log_prob_rounding(log_probs, lengths)
        score_rounding = self.kl_coef * (rounding / lengths if self.loss == "simpo" else rounding)
        padded, padded_rounding, padded_score_rounding = (
            pad_by_group(one, batch)[0] for one in (log_probs, rounding, score_rounding)
        )
        self.metrics.add("accuracy", pairwise_accuracy(scores, present, padded_score_rounding))
        self.metrics.add("margin", pair_margins(scores, present))
        self.metrics.add("logp_accuracy", pairwise_accuracy(padded, present, padded_rounding))
        if self.loss == "ipo":  # the target margin of log ratios is 1 / (2 kl_coef)
            losses = ipo_loss(scores / self.kl_coef, present, 1 / (2 * self.kl_coef))
        else:
            losses = plackett_luce(scores, present, margin, self.label_smoothing)
        return with_router_loss(losses.sum(), model, real_mask, batch.n_counted)

    def _add_drift(self, log_ratios: Tensor, batch: RankingMicroBatch, lengths: Tensor) -> None:
        """How far the policy is from the reference: nats a completion, of the best and of the others, and absolute nats a
        token.
        """
        best = batch.place == 0
        self.metrics.add("best_log_ratio", log_ratios[best])
        self.metrics.add("other_log_ratio", log_ratios[~best])
        self.metrics.add("drift", log_ratios.abs() / lengths)


@torch.no_grad()
def reference_log_probs(
    model: LanguageModel,
    source: PreferenceSource,
    advance: OnProgress | None = None,
    rankings: np.ndarray | None = None,
) -> np.ndarray:
    """(n_completions,) float32: the log-probability of every completion of the source's data, in evaluation mode and
    without autocast; with `rankings`, of theirs alone, and NaN for the others. `advance` is called with the number of
    rankings of each batch.
    """
    device = next(model.parameters()).device
    data, mode = source.data, model.training
    reference = np.full(data.n_completions, np.nan, np.float32)
    model.eval()
    try:
        n_rows = min(ROWS_PER_FORWARD, max(1, TOKENS_PER_FORWARD // int(data.lengths.max())))
        for numbers, batch in source.one_pass(n_rows, rankings):
            micro: Any = to_micro_batch(batch, device)
            log_probs = completion_log_probs(model, micro).float().cpu().numpy()
            assert np.isfinite(log_probs).all(), "the reference has a log-probability that is not finite"
            reference[np.concatenate([np.arange(data.first[r], data.first[r + 1]) for r in numbers])] = (
                log_probs
            )
            if advance is not None:
                advance(len(numbers))
    finally:
        model.train(mode)
    return reference
