"""Preferences: completions of a ranking, the reference model, and the direction of a step. N completions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.model.heads import RewardModel
from parakit.tokens.batches.batch import RankingBatch
from parakit.training import loop
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import arrays, completions, forward, micro_batch, ranking_log_probs
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import drop_gradients, select_rows, shortest_rankings
from parakit.training.micro_batches import RankingMicroBatch
from parakit.training.precision import Precision

check = partial(registry.check, subject="Preferences")
_ENCODE = "Encode the preferences through the chat template, with Parakit's own encoder."
MAX_COMPARED = 1  # rankings whose reference is computed again


@check(
    "lone-completion",
    applies_to=("rankings",),
    prevents="A ranking with one completion has nothing to compare: its loss is 0.",
    noticed_by="The completions of every sampled ranking are counted.",
    remedy=_ENCODE,
)
def lone_completion(context: CheckContext) -> str | None:
    n = sum(int((batch.real_mask.any(-1).sum(1) < 2).sum()) for batch in context.sample)
    return f"{n} rankings have a single completion" if n else None


@check(
    "seam-differs",
    applies_to=("rankings",),
    prevents="Chosen and rejected share the prompt's text but not its tokens at the seam, so part of what is compared is"
    " tokenization.",
    noticed_by="The tokens before the first counted one are compared within each sampled ranking.",
    remedy=_ENCODE,
)
def seam_differs(context: CheckContext) -> str | None:
    for batch in context.sample:
        prompts: dict[int, np.ndarray] = {}
        for row, place, ids, counted in completions(batch):
            prompt = ids[: int(np.argmax(counted))]
            if not np.array_equal(prompts.setdefault(row, prompt), prompt):
                return f"ranking {row}: completion {place} follows other tokens than completion 0"
    return None


@check(
    "identical-completions",
    applies_to=("rankings",),
    prevents="A completion that is compared with itself teaches nothing and lowers the accuracy.",
    noticed_by="The counted tokens of the completions are compared within each sampled ranking.",
    remedy="Remove rankings whose completions are equal.",
)
def identical_completions(context: CheckContext) -> str | None:
    n = n_all = 0
    for batch in context.sample:
        seen: set[tuple[int, bytes]] = set()
        rows: set[int] = set()
        for row, _, ids, counted in completions(batch):
            key = (row, ids[counted].astype(np.int64).tobytes())
            if key in seen:
                rows.add(row)
            seen.add(key)
        n, n_all = n + len(rows), n_all + len(batch.real_mask)
    return f"in {n} of {n_all} rankings two completions are the same tokens" if n else None


@check(
    "reference-differs",
    applies_to=("dpo",),
    passes=4,
    prevents="The reference is another model than the policy begins as, drifts with it, or was computed with dropout: the"
    " loss measures a difference that training did not make.",
    noticed_by="The stored log-probabilities of the reference are computed again with the policy, in evaluation mode.",
    remedy="Compute the reference's log-probabilities with the model that is tuned, before its first step and in"
    " evaluation mode.",
)
@torch.no_grad()
def reference_differs(context: CheckContext) -> str | None:
    # Outside of `probing`: the reference was computed with the model's real weights, zeros included.
    model, batch = context.model, context.batch
    if batch.reference is None:
        return None
    first = select_rows(batch, shortest_rankings(batch, MAX_COMPARED))
    mode = model.training
    model.eval()
    micro = micro_batch(model, first)
    policy, reference = ranking_log_probs(model, micro).cpu(), micro.reference.double().cpu()
    model.train(mode)
    per_token = (policy - reference).abs() / micro.loss_mask.sum(1).cpu()
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    if bool((per_token < (5e-2 if half else 1e-3)).all()):
        return None
    worst = int(per_token.argmax())
    policy_nats, reference_nats = float(policy[worst]), float(reference[worst])
    return f"a completion's log-probability is {reference_nats:.4g} nats in the reference, {policy_nats:.4g} in the policy"


@check(
    "preference-direction",
    applies_to=("rankings",),
    runs_model=True,
    passes=4,
    prevents="Chosen and rejected are swapped, or the loss has the wrong sign: training prefers the worse completion.",
    noticed_by="Along the loss's negative gradient the margin of the best completion over the worst must grow, for one"
    " pair of the first batch.",
    remedy="Order completions best first, and return a loss that falls when their margin grows.",
)
def preference_direction(context: CheckContext) -> str | None:
    model, micro = context.model, micro_batch(context.model, _one_pair(context.probe))
    precision = Precision("float32", next(model.parameters()).device)
    gradients = []
    for objective in (context.objective, _margin):
        drop_gradients(model)
        loop.accumulate_gradients(model, [micro], objective, precision, micro.n_counted)
        gradients.append([p.grad for p in model.parameters()])
    drop_gradients(model)
    change = -sum(
        float(
            (one.double() * other.double()).sum()
        )  # one matrix at a time: copies of all would take more than training
        for one, other in zip(*gradients, strict=True)
        if one is not None and other is not None
    )
    return None if change > 0 else f"along the loss's negative gradient the margin changes by {change:.3g}"


def _one_pair(batch: RankingBatch) -> RankingBatch:
    """The best and the worst completion of the first ranking: of several pairs the gradients may point anywhere."""
    worst = int(batch.real_mask[0].any(-1).sum()) - 1
    cut: dict[str, Any] = {
        name: value[:1] if value.ndim == 1 else value[:1, [0, worst]] for name, value in arrays(batch).items()
    }
    return replace(batch, **cut, n_counted=1)


def _margin(model: nn.Module, micro: RankingMicroBatch) -> Tensor:
    values = (
        forward(model, micro).double() if isinstance(model, RewardModel) else ranking_log_probs(model, micro)
    )
    best = micro.place == 0
    return values[best].mean() - values[~best].mean()
