"""How likely a ranking is, given a score for each of its completions (Bradley and Terry 1952; Plackett 1975, Luce
1959), and the figures of one.

Plackett and Luce choose the best of all, then the best of the rest, and so on, each with a softmax over scores; of two
completions this is Bradley and Terry's. All functions take scores (N,), best first within each ranking, and return
one number a ranking, in float32 (float64 where the scores are).

Shapes: N completions, R rankings, K completions of a ranking at most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from parakit.training.micro_batches import RankingMicroBatch


def pad_by_group(values: Tensor, batch: RankingMicroBatch) -> tuple[Tensor, Tensor]:
    """Values (N,) as (R, K), zero where there is no completion, and (R, K) bool: where there is one."""
    shape = (len(batch.margins), int(batch.place.max()) + 1)
    there = torch.zeros(shape, dtype=torch.bool, device=values.device)
    there[batch.group, batch.place] = True
    laid = values.new_zeros(shape).index_put((batch.group, batch.place), values)
    return laid, there


def plackett_luce(scores: Tensor, there: Tensor, margin: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Nats (R,) of each ranking: minus the log-likelihood that scores (R, K) give it.

    Whoever is chosen must lead by `margin` (R,): it is added to the scores of those left behind. `label_smoothing` is
    the share of rankings taken to stand upside down (Mitchell 2023's conservative DPO).
    """
    loss = _order_loss(scores, there, margin)
    if not label_smoothing:
        return loss
    n = there.sum(1, keepdim=True)
    places = torch.arange(scores.shape[1], device=scores.device)
    turned = scores.gather(1, (n - 1 - places).clamp(min=0))
    return (1 - label_smoothing) * loss + label_smoothing * _order_loss(turned, there, margin)


def _order_loss(scores: Tensor, there: Tensor, margin: Tensor) -> Tensor:
    if scores.shape[1] == 2:
        return -functional.logsigmoid(scores[:, 0] - scores[:, 1] - margin)
    n_places = scores.shape[1]
    behind = torch.ones(n_places, n_places, dtype=torch.bool, device=scores.device).triu(1)  # (k, j): j > k
    rivals = scores[:, None, :] + margin[:, None, None] * behind
    seen = there[:, None, :] & (behind | torch.eye(n_places, dtype=torch.bool, device=scores.device))
    seen = seen | ~there[:, :, None]  # places of nobody look at all: their softmax is over something
    loss = rivals.masked_fill(~seen, -torch.inf).logsumexp(-1) - scores  # (R, K)
    return loss.masked_fill(~there, 0.0).sum(1)


def ipo_loss(scores: Tensor, there: Tensor, wanted: float) -> Tensor:
    """The squared error (R,) of each better completion's lead over each worse one, which should be `wanted`; the mean
    over the pairs of a ranking (Azar et al. 2023, equation 17).
    """
    leads, pairs = _leads(scores, there)
    return ((leads - wanted).square() * pairs).sum((1, 2)) / pairs.sum((1, 2))


def pair_margins(scores: Tensor, there: Tensor) -> Tensor:
    """By how much each better completion leads each worse one, all pairs of all rankings in one row."""
    leads, pairs = _leads(scores, there)
    return leads[pairs]


def pairwise_accuracy(scores: Tensor, there: Tensor) -> Tensor:
    """Of every pair of every ranking whether the better completion leads: 1, 0, or a half where neither does."""
    return (pair_margins(scores, there).detach().sign() + 1) / 2


def _leads(scores: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """(R, K, K): scores[k] - scores[j], and where j is behind k and both are there."""
    behind = torch.ones(scores.shape[1], scores.shape[1], dtype=torch.bool, device=scores.device).triu(1)
    return scores[:, :, None] - scores[:, None, :], there[:, :, None] & there[:, None, :] & behind
