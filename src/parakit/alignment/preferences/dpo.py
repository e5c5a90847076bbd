"""Preferences without a reward model: DPO (Rafailov et al. 2023), its conservative form with smoothed labels, IPO (Azar
et al. 2023), and SimPO (Meng et al. 2024), which needs no reference.

A completion's implicit reward is kl_coef times the log ratio of policy and reference; rankings of more than two take
Plackett and Luce's likelihood (Rafailov et al., appendix A.3). What the reference says is computed once, before
training and in evaluation mode, and travels with the batches: a reference that is no tensor of the policy's cannot
drift.

Shapes: N completions, T tokens, D width, C counted tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from parakit.alignment.config import PreferenceLoss
from parakit.alignment.mean_metrics import MeanMetrics
from parakit.alignment.preferences.rankings import (
    ipo_loss,
    pad_by_group,
    pair_margins,
    pairwise_accuracy,
    plackett_luce,
)
from parakit.alignment.preferences.shared_prefix import hidden_at
from parakit.model.heads import LanguageModel
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import RankingMicroBatch, to_micro_batch
from parakit.training.objectives.routing import with_router_loss
from parakit.training.precision import at_least_float32

KL_COEF: dict[PreferenceLoss, float] = {"dpo": 0.1, "ipo": 0.1, "simpo": 2.0}
ROWS_PER_FORWARD = 16  # rankings, of the reference


def completion_log_probs(model: LanguageModel, batch: RankingMicroBatch) -> Tensor:
    """(N,) nats: the log-probability of each completion, its end of turn included, given its prompt."""
    return _said(model, batch)[0]


def _said(model: LanguageModel, batch: RankingMicroBatch) -> tuple[Tensor, Tensor]:
    """The log-probabilities, and which places that passed the network are real."""
    hidden, real_mask = hidden_at(
        model, batch.input_ids, batch.loss_mask, batch.branched
    )  # (C, D); the prompt never passes the output matrix
    logits = at_least_float32(model.logits(hidden))
    log_probs = -functional.cross_entropy(logits, batch.target_ids[batch.loss_mask], reduction="none")
    rows = batch.loss_mask.nonzero()[:, 0]
    summed = log_probs.new_zeros(len(batch.input_ids)).index_add(0, rows, log_probs)
    return summed, batch.real_mask if real_mask is None else real_mask


class PreferenceObjective:
    """The loss of the rankings, summed. `kl_coef` None: the method's own default; `margin` is SimPO's target lead, and
    for the others an offset (Amini et al. 2024). `figures` holds what the steps since the last look were like.
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
        self.figures = MeanMetrics()

    def __call__(self, model: LanguageModel, batch: RankingMicroBatch) -> Tensor:
        log_probs, real_mask = _said(model, batch)
        lengths = batch.loss_mask.sum(1)
        if self.loss == "simpo":
            rewards = self.kl_coef * log_probs / lengths
        else:
            assert batch.reference is not None, "what the reference says must be computed first"
            log_ratios = log_probs - batch.reference.to(log_probs.dtype)
            rewards = self.kl_coef * log_ratios
            self._watch_drift(log_ratios, batch, lengths)
        scores, there = pad_by_group(rewards, batch)
        margin = torch.full_like(scores[:, 0], self.margin)
        if self.row_margins:
            margin = margin + batch.margins
        self.figures.add("accuracy", pairwise_accuracy(scores, there))
        self.figures.add("margin", pair_margins(scores, there))
        self.figures.add("logp_accuracy", pairwise_accuracy(pad_by_group(log_probs, batch)[0], there))
        if self.loss == "ipo":  # in log ratios the wanted lead is 1 / (2 kl_coef)
            losses = ipo_loss(scores / self.kl_coef, there, 1 / (2 * self.kl_coef))
        else:
            losses = plackett_luce(scores, there, margin, self.label_smoothing)
        return with_router_loss(losses.sum(), model, real_mask, batch.n_counted)

    def _watch_drift(self, log_ratios: Tensor, batch: RankingMicroBatch, lengths: Tensor) -> None:
        """How far the policy went from the reference: nats a completion, of the best and of the others, and nats a
        token either way.
        """
        best = batch.place == 0
        self.figures.add("best_log_ratio", log_ratios[best])
        self.figures.add("other_log_ratio", log_ratios[~best])
        self.figures.add("drift", log_ratios.abs() / lengths)


@torch.no_grad()
def reference_log_probs(
    model: LanguageModel, source: PreferenceSource, advance: Callable[[int], object] | None = None
) -> np.ndarray:
    """(n_completions,) float32: what `model` says to every completion of the source's data, in evaluation mode and full
    precision. `advance` is called with the number of rankings of each batch.
    """
    device = next(model.parameters()).device
    data, mode = source.data, model.training
    found = np.full(data.n_completions, np.nan, np.float32)
    model.eval()
    try:
        for numbers, batch in source.once(ROWS_PER_FORWARD):
            micro: Any = to_micro_batch(batch, device)
            said = completion_log_probs(model, micro).float().cpu().numpy()
            found[np.concatenate([np.arange(data.first[r], data.first[r + 1]) for r in numbers])] = said
            if advance is not None:
                advance(len(numbers))
    finally:
        model.train(mode)
    assert np.isfinite(found).all(), "the reference gives some completion no finite log-probability"
    return found
