"""Checks on rankings (pitfalls 1, 4, 17, 33, 34): which tokens count, whether the completions of a ranking share their
prompt to the last token, what the reference says, and which way a step goes.

Each function takes what it looks at and returns the fault in words, or None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.model.heads import RewardModel
from parakit.tokens.batches.batch import RankingBatch
from parakit.training import loop
from parakit.training.doctor.probes import drop_gradients
from parakit.training.doctor.turns import Grammar
from parakit.training.doctor.views import arrays, micro_batch, other_ids, run
from parakit.training.micro_batches import Objective
from parakit.training.precision import Precision


def _completions(batch: RankingBatch) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(ranking, place, ids, which of them count) of every completion; the first id is given and never counts."""
    for row, place in np.argwhere(batch.real_mask.any(-1)):
        real = batch.real_mask[row, place]
        ids = np.concatenate([batch.input_ids[row, place, :1], batch.target_ids[row, place][real]])
        counted = np.concatenate([[False], batch.loss_mask[row, place][real]])
        yield int(row), int(place), ids, counted


def prompt_counted(batches: Sequence[RankingBatch], grammar: Grammar | None) -> str | None:
    """Counted tokens that are no part of the answer, or parts of the answer that do not count."""
    for batch in batches:
        for row, place, ids, counted in _completions(batch):
            if not counted.any():
                return f"ranking {row}, completion {place}: none of its tokens counts"
            first = int(np.argmax(counted))
            if not counted[first:].all():
                return f"ranking {row}, completion {place}: a token inside the completion does not count"
            if grammar is None:
                continue
            turns = grammar.assistant_turns(ids.tolist())
            if not turns or (turns[-1].start, turns[-1].stop) != (first, len(ids)):
                return (
                    f"ranking {row}, completion {place}: counted are tokens {first} to {len(ids)}, and the last"
                    f" assistant's turn is {turns[-1].start if turns else 'none'}"
                    + (f" to {turns[-1].stop}" if turns else "")
                )
    return None


def seam_differs(batches: Sequence[RankingBatch]) -> str | None:
    """Completions of one ranking whose prompts are not the same tokens."""
    for batch in batches:
        prompts: dict[int, np.ndarray] = {}
        for row, place, ids, counted in _completions(batch):
            prompt = ids[: int(np.argmax(counted))]
            if not np.array_equal(prompts.setdefault(row, prompt), prompt):
                return f"ranking {row}: completion {place} stands behind other tokens than completion 0"
    return None


def identical_completions(batches: Sequence[RankingBatch]) -> str | None:
    """A ranking in which the same completion stands twice: nothing can be preferred."""
    n = n_all = 0
    for batch in batches:
        met: set[tuple[int, bytes]] = set()
        rows: set[int] = set()
        for row, _, ids, counted in _completions(batch):
            key = (row, ids[counted].astype(np.int64).tobytes())
            if key in met:
                rows.add(row)
            met.add(key)
        n, n_all = n + len(rows), n_all + len(batch.real_mask)
    return f"in {n} of {n_all} rankings two completions are the same tokens" if n else None


def lone_completion(batches: Sequence[RankingBatch]) -> str | None:
    """Rankings of one."""
    n = sum(int((batch.real_mask.any(-1).sum(1) < 2).sum()) for batch in batches)
    return f"{n} rankings have a single completion" if n else None


def end_not_counted(batches: Sequence[RankingBatch], grammar: Grammar | None) -> str | None:
    """Completions that do not end with a counted end of turn."""
    if grammar is None:
        return None
    n = n_all = 0
    for batch in batches:
        for _, _, ids, counted in _completions(batch):
            n_all += 1
            n += not (counted[-1] and ids[-1] == grammar.end_id)
    return f"{n} of {n_all} completions do not end with a counted end of turn" if n else None


def padding_counted(batch: RankingBatch) -> str | None:
    """Counted targets that are padding."""
    n = int((batch.loss_mask & ~batch.real_mask).sum())
    return f"{n} of {int(batch.loss_mask.sum())} counted targets are padding" if n else None


def targets_shift(batch: RankingBatch) -> str | None:
    """Targets that are not the inputs, one place ahead."""
    both = batch.real_mask[..., :-1] & batch.real_mask[..., 1:]
    wrong = int((batch.target_ids[..., :-1] != batch.input_ids[..., 1:])[both].sum())
    return f"{wrong} of {int(both.sum())} targets are not the next input" if wrong else None


@torch.no_grad()
def reference_differs(model: Any, batch: RankingBatch) -> str | None:
    """Before the first step policy and reference are one model, so what was kept of the reference must be what the
    policy says now, in evaluation mode.
    """
    if batch.reference is None:
        return None
    few = replace(
        batch,
        **{
            name: getattr(batch, name)[:4]
            for name in vars(batch)
            if isinstance(getattr(batch, name), np.ndarray)
        },
        n_counted=len(batch.margins[:4]),
    )
    mode = model.training
    model.eval()
    micro = micro_batch(model, few)
    said, kept = _log_probs(model, micro).cpu(), micro.reference.double().cpu()
    model.train(mode)
    lengths = micro.loss_mask.sum(1).cpu()
    off = (said - kept).abs() / lengths
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    if bool((off < (5e-2 if half else 1e-3)).all()):
        return None
    worst = int(off.argmax())
    return f"the reference gave a completion {float(kept[worst]):.4g} nats, the model gives it {float(said[worst]):.4g}"


def _log_probs(model: Any, micro: Any) -> Tensor:
    """(N,) in float64, taken here from all logits."""
    log_p = run(model, micro).double().log_softmax(-1).gather(-1, micro.target_ids[..., None]).squeeze(-1)
    return (log_p * micro.loss_mask).sum(1)


def _values(model: Any, micro: Any) -> Tensor:
    """(N,): what should grow for the better and fall for the worse."""
    return run(model, micro).double() if isinstance(model, RewardModel) else _log_probs(model, micro)


def prefers_the_worse(model: Any, batch: RankingBatch, objective: Objective) -> str | None:
    """An objective whose gradient, followed downhill, lifts the worse completion above the best. Looked at is one pair:
    of several the gradients may point anywhere.
    """
    micro = micro_batch(model, _one_pair(batch))
    precision = Precision("float32", next(model.parameters()).device)
    slopes = []
    for wanted in (objective, lambda m, b: _lead(_values(m, b), b)):
        drop_gradients(model)
        loop.accumulate_gradients(model, [micro], wanted, precision, micro.n_counted)
        slopes.append([p.grad for p in model.parameters()])
    drop_gradients(model)
    pairs = [
        (one, other) for one, other in zip(*slopes, strict=True) if one is not None and other is not None
    ]
    change = -sum(float((one.double() * other.double()).sum()) for one, other in pairs)
    return (
        None
        if change > 0
        else f"along the loss's gradient the best completions' lead changes by {change:.3g}"
    )


def _one_pair(batch: RankingBatch) -> RankingBatch:
    """The best and the worst completion of the first ranking."""
    worst = int(batch.real_mask[0].any(-1).sum()) - 1
    cut: dict[str, Any] = {
        name: value[:1] if value.ndim == 1 else value[:1, [0, worst]] for name, value in arrays(batch).items()
    }
    return replace(batch, **cut, n_counted=1)


def _lead(values: Tensor, micro: Any) -> Tensor:
    best = micro.place == 0
    return values[best].mean() - values[~best].mean()


@torch.no_grad()
def prompt_matters_to_loss(model: Any, batch: RankingBatch, objective: Objective) -> str | None:
    """An objective that looks at targets which do not count."""
    changed = replace(
        batch, target_ids=np.where(batch.loss_mask, batch.target_ids, other_ids(model, batch.target_ids))
    )
    losses = [float(objective(model, micro_batch(model, one))) for one in (batch, changed)]
    return None if losses[0] == losses[1] else "the loss changes with targets that do not count"
