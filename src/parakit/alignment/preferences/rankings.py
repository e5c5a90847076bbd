"""Losses and metrics of rankings, given a score for each completion (Bradley and Terry 1952; Plackett 1975, Luce 1959).

The Plackett-Luce likelihood chooses the best of all, then the best of the rest, and so on, each with a softmax over
scores; for two completions it is Bradley-Terry's. All functions take scores (R, K), best first within each ranking, in
float32 or float64.

Shapes: N completions, R rankings, K completions of a ranking at most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from parakit.training.micro_batches import RankingMicroBatch

TIE_EPS = 1024  # machine epsilons a token: float32's are 0.0001 nats


def pad_by_group(values: Tensor, batch: RankingMicroBatch) -> tuple[Tensor, Tensor]:
    """Values (N,) as (R, K), zero where there is no completion; and (R, K) bool, True where there is one."""
    shape = (len(batch.margins), int(batch.place.max()) + 1)
    present = torch.zeros(shape, dtype=torch.bool, device=values.device)
    present[batch.group, batch.place] = True
    padded = values.new_zeros(shape).index_put((batch.group, batch.place), values)
    return padded, present


def plackett_luce(scores: Tensor, present: Tensor, margin: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Nats (R,): minus the log-likelihood of each ranking under scores (R, K).

    `margin` (R,) is added to the scores of the worse completions. `label_smoothing` is the share of rankings taken to be
    in reverse order (Mitchell 2023's conservative DPO).
    """
    loss = _order_loss(scores, present, margin)
    if not label_smoothing:
        return loss
    n = present.sum(1, keepdim=True)
    places = torch.arange(scores.shape[1], device=scores.device)
    reverse = scores.gather(1, (n - 1 - places).clamp(min=0))
    return (1 - label_smoothing) * loss + label_smoothing * _order_loss(reverse, present, margin)


def _order_loss(scores: Tensor, present: Tensor, margin: Tensor) -> Tensor:
    if scores.shape[1] == 2:
        return -functional.logsigmoid(scores[:, 0] - scores[:, 1] - margin)
    n_places = scores.shape[1]
    behind = torch.ones(n_places, n_places, dtype=torch.bool, device=scores.device).triu(1)  # (k, j): j > k
    rivals = scores[:, None, :] + margin[:, None, None] * behind
    seen = present[:, None, :] & (behind | torch.eye(n_places, dtype=torch.bool, device=scores.device))
    seen = seen | ~present[:, :, None]  # an empty place sees all: its softmax must not be empty
    loss = rivals.masked_fill(~seen, -torch.inf).logsumexp(-1) - scores  # (R, K)
    return loss.masked_fill(~present, 0.0).sum(1)


def ipo_loss(scores: Tensor, present: Tensor, target: float) -> Tensor:
    """(R,): the squared error of each pair's margin, which should be `target`; the mean over a ranking's pairs (Azar et
    al. 2023, equation 17).
    """
    margins, pairs = _margins(scores, present)
    return ((margins - target).square() * pairs).sum((1, 2)) / pairs.sum((1, 2))


def pair_margins(scores: Tensor, present: Tensor) -> Tensor:
    """The score of the better completion minus that of the worse one, all pairs of all rankings in one row."""
    margins, pairs = _margins(scores, present)
    return margins[pairs]


def pairwise_accuracy(scores: Tensor, present: Tensor, rounding: Tensor | None = None) -> Tensor:
    """For every pair of every ranking 1 where the better completion has the higher score, 0 where it has the lower one,
    and a half at a tie. A margin within the `rounding` (R, K) of its two scores is a tie; none: equal scores only.
    """
    margins, pairs = _margins(scores.detach(), present)
    if rounding is not None:
        margins = margins.masked_fill(margins.abs() <= rounding[:, :, None] + rounding[:, None, :], 0.0)
    return (margins[pairs].sign() + 1) / 2


def log_prob_rounding(log_probs: Tensor, n_tokens: Tensor) -> Tensor:
    """(N,) nats: how far two computations of a completion's log-probability may differ.

    The same weights score the same tokens differently in batches of other shapes or with other instructions: each
    logit, of magnitude up to about 30, is off by some machine epsilons times its size, more so in deep models. A
    thousand epsilons a token bounds that, and is far below any difference that training makes.
    """
    return TIE_EPS * torch.finfo(log_probs.dtype).eps * n_tokens


def _margins(scores: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """(R, K, K): scores[k] - scores[j], and True where both are present and k is better than j."""
    behind = torch.ones(scores.shape[1], scores.shape[1], dtype=torch.bool, device=scores.device).triu(1)
    pairs = present[:, :, None] & present[:, None, :] & behind
    return scores[:, :, None] - scores[:, None, :], pairs
