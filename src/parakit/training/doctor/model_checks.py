"""Checks by behaviour (pitfalls 1, 11 to 17, 19 to 22): the model and the objective are run on a small probe,
and what they do is looked at.

Each function takes what it looks at and returns the fault in words, or None. They run inside
`probes.tried_out`. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.heads import LanguageModel
from parakit.tokens.batches import Batch
from parakit.training import loop, objectives, optimizers
from parakit.training.doctor.probes import counted_as, drop_gradients, row_slice, unevenly_counted
from parakit.training.doctor.turns import breaks
from parakit.training.objectives import MicroBatch, Objective
from parakit.training.precision import Precision

Gradient = dict[str, Tensor]
SKETCHED = 4096  # elements of each gradient that are kept for a comparison


def micro_batch(model: LanguageModel, batch: Batch) -> MicroBatch:
    """As training makes it, on the model's device."""
    return objectives.to_micro_batch(batch, next(model.parameters()).device)


@torch.no_grad()
def _logits(model: LanguageModel, batch: Batch) -> Tensor:
    micro = micro_batch(model, batch)
    logits = model(micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask)
    return logits.double().cpu()  # (B, T, V)


def _differ(one: Tensor, other: Tensor, model: LanguageModel) -> bool:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return bool((one - other).abs().max() > (5e-2 if half else 1e-3) * (1e-6 + other.std()))


def _other_ids(model: LanguageModel, input_ids: np.ndarray) -> np.ndarray:
    return (input_ids + 1) % model.config.vocab_size


def _with_inputs(batch: Batch, row: int, columns: slice, model: LanguageModel) -> Batch:
    """`batch` with other tokens in `columns` of `row`."""
    input_ids = batch.input_ids.copy()
    input_ids[row, columns] = _other_ids(model, input_ids[row, columns])
    return replace(batch, input_ids=input_ids)


def future_leaks(model: LanguageModel, batch: Batch) -> str | None:
    """A token that changes what was predicted before it."""
    one = row_slice(batch, 0, 1)
    last = one.input_ids.shape[1] - 1
    before, after = _logits(model, one), _logits(model, _with_inputs(one, 0, slice(last, None), model))
    if last and _differ(after[:, :last], before[:, :last], model):
        return "changing a row's last token changes the predictions before it"
    return None


def documents_leak(model: LanguageModel, batch: Batch, bos_id: int | None) -> str | None:
    """A document that changes the predictions of another in its row, or is read otherwise than it would be
    alone.
    """
    edges = breaks(batch, 0, bos_id)
    if not edges:
        return None
    one = row_slice(batch, 0, 1)
    real = int((one.document_ids[0] >= 0).sum())
    begin, end = edges[0], [*edges[1:], real][0]
    before = _logits(model, one)
    changed = _logits(model, _with_inputs(one, 0, slice(0, begin), model))
    if _differ(changed[:, begin:real], before[:, begin:real], model):
        return "changing a token of one document changes the predictions of the next one in its row"
    with torch.no_grad():
        alone = (
            model(torch.from_numpy(one.input_ids[:, begin:end]).to(next(model.parameters()).device))
            .double()
            .cpu()
        )
    if _differ(alone, before[:, begin:end], model):
        return "a document in a packed row is not read as it is alone"
    return None


def gradient(
    model: LanguageModel, batches: Sequence[Batch], objective: Objective, n_counted: int
) -> Gradient:
    """A sketch of the gradient, in float64, that the training loop makes of these micro-batches."""
    drop_gradients(model)
    micro_batches = [micro_batch(model, batch) for batch in batches]
    precision = Precision("float32", next(model.parameters()).device)
    loop.accumulate_gradients(model, micro_batches, objective, precision, n_counted)
    sketch = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            sketch[name] = parameter.grad.flatten()[:: max(1, parameter.numel() // SKETCHED)].double().cpu()
    drop_gradients(model)
    return sketch


def _distance(one: Gradient, other: Gradient) -> float:
    """How far two gradients lie apart, in parts of the second's norm; infinite where they do not even have
    the same parts, or are no numbers.
    """
    if one.keys() != other.keys():
        return float("inf")
    norm = sum(float(value.square().sum()) for value in other.values()) ** 0.5
    apart = sum(float((one[name] - other[name]).square().sum()) for name in other) ** 0.5
    return apart / (norm + 1e-12) if np.isfinite(apart) else float("inf")


def _apart(model: LanguageModel, one: Gradient, other: Gradient) -> str | None:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    distance = _distance(one, other)
    return f"{distance:.2g} of its norm" if distance > (5e-2 if half else 1e-3) else None


def _cut(batch: Batch, sizes: Sequence[int]) -> list[Batch]:
    edges = np.cumsum([0, *sizes]).tolist()
    return [row_slice(batch, begin, end) for begin, end in pairwise(edges)]


def accumulation_weights(
    model: LanguageModel, batch: Batch, objective: Objective, whole: Gradient
) -> str | None:
    """A gradient that depends on how the batch was cut into micro-batches of one size."""
    uneven = unevenly_counted(batch)
    n, total = len(uneven.input_ids), uneven.n_counted
    for n_parts in {2, n}:
        if n % n_parts == 0:
            parts = _cut(uneven, [n // n_parts] * n_parts)
            if found := _apart(model, gradient(model, parts, objective, total), whole):
                return f"cut into {n_parts} micro-batches, the gradient differs by {found}"
    return None


def last_window(model: LanguageModel, batch: Batch, objective: Objective, whole: Gradient) -> str | None:
    """A gradient that changes when the last micro-batch is smaller than the others."""
    uneven = unevenly_counted(batch)
    n = len(uneven.input_ids)
    if n < 2:
        return None
    found = _apart(model, gradient(model, _cut(uneven, [n - 1, 1]), objective, uneven.n_counted), whole)
    return f"with a smaller last micro-batch, the gradient differs by {found}" if found else None


def masked_micro_batch(model: LanguageModel, batch: Batch, objective: Objective) -> str | None:
    """A micro-batch without a counted token that gives NaN, or changes the gradient."""
    uneven = unevenly_counted(batch, empty_row=True)
    n = len(uneven.input_ids)
    if n < 2:
        return None
    with torch.no_grad():
        alone = float(objective(model, micro_batch(model, row_slice(uneven, 1, 2))))
    if alone != 0:
        return f"the loss of a micro-batch without counted tokens is {alone}"
    whole = gradient(model, [uneven], objective, uneven.n_counted)
    found = _apart(model, gradient(model, _cut(uneven, [1] * n), objective, uneven.n_counted), whole)
    return f"with a micro-batch without counted tokens, the gradient differs by {found}" if found else None


def rank_weights(model: LanguageModel, batch: Batch, objective: Objective, whole: Gradient) -> str | None:
    """Ranks whose gradients do not add up to that of the whole batch, when they hold different numbers of
    counted tokens.
    """
    uneven = unevenly_counted(batch)
    n = len(uneven.input_ids)
    if n < 2:
        return None
    ranks = [
        gradient(model, [part], objective, uneven.n_counted) for part in _cut(uneven, [n // 2, n - n // 2])
    ]
    added: Gradient = {}
    for rank in ranks:
        added |= {name: added[name] + part if name in added else part for name, part in rank.items()}
    found = _apart(model, added, whole)
    return f"the gradients of two ranks add up to another gradient: off by {found}" if found else None


@torch.no_grad()
def _cross_entropy(model: LanguageModel, micro: MicroBatch, ahead: int = 0) -> float:
    """The summed loss of the counted targets, taken here in float64; `ahead` reads the targets of so many
    columns further on.
    """
    logits = model(
        micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask
    ).double()
    mask = torch.ones_like(micro.target_ids, dtype=torch.bool) if micro.loss_mask is None else micro.loss_mask
    targets = micro.target_ids.roll(-ahead, 1)
    seq_len = targets.shape[1] - ahead
    logits, targets, mask = logits[:, :seq_len], targets[:, :seq_len], mask[:, ahead:]
    return float(functional.cross_entropy(logits[mask], targets[mask], reduction="sum"))


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-3 * max(abs(other), 1e-6)


def objective_shifts(model: LanguageModel, batch: Batch, objective: Objective) -> str | None:
    """An objective that shifts targets which are shifted already."""
    micro = micro_batch(model, unevenly_counted(batch))
    with torch.no_grad():
        loss = float(objective(model, micro))
    if not _is_close(loss, _cross_entropy(model, micro)) and _is_close(
        loss, _cross_entropy(model, micro, ahead=1)
    ):
        return "the objective shifts the targets a second time"
    return None


def uncounted_targets_matter(model: LanguageModel, batch: Batch, objective: Objective) -> str | None:
    """An objective that looks at targets which do not count."""
    half = unevenly_counted(batch)
    changed = replace(
        half, target_ids=np.where(half.loss_mask, half.target_ids, _other_ids(model, half.target_ids))
    )
    with torch.no_grad():
        losses = [float(objective(model, micro_batch(model, one))) for one in (half, changed)]
    return (
        None
        if losses[0] == losses[1] or np.isnan(losses).any()
        else "the loss changes with targets that do not count"
    )


def objective_differs(model: LanguageModel, batch: Batch, objective: Objective) -> str | None:
    """A loss that is not the sum of the counted tokens' cross-entropies."""
    micro = micro_batch(model, unevenly_counted(batch))
    with torch.no_grad():
        loss = float(objective(model, micro))
    wanted = _cross_entropy(model, micro)
    return (
        None
        if _is_close(loss, wanted)
        else f"the loss is {loss:.6g}, the counted tokens' cross-entropies sum to {wanted:.6g}"
    )


def half_precision_loss(
    model: LanguageModel, batch: Batch, objective: Objective, precision: str
) -> str | None:
    """A loss that is taken in half precision."""
    used = Precision(precision, next(model.parameters()).device)
    with torch.no_grad(), used.autocast():
        dtype = objective(model, micro_batch(model, row_slice(batch, 0, 1))).dtype
    return None if dtype in (torch.float32, torch.float64) else f"the loss is computed in {dtype}"


def touched(model: LanguageModel, batch: Batch, objective: Objective) -> set[str]:
    """Names of the parameters that a gradient reaches."""
    every = counted_as(batch, batch.document_ids >= 0)
    drop_gradients(model)
    precision = Precision("float32", next(model.parameters()).device)
    loop.accumulate_gradients(model, [micro_batch(model, every)], objective, precision, every.n_counted)
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    drop_gradients(model)
    return reached


def no_gradient(model: LanguageModel, reached: set[str], frozen: Callable[[str], bool]) -> str | None:
    """Parameters that should train, and that no gradient reaches."""
    idle = [name for name, _ in model.named_parameters() if not frozen(name) and name not in reached]
    return f"no gradient reaches {_few(idle)}" if idle else None


def frozen_gradient(model: LanguageModel, reached: set[str], frozen: Callable[[str], bool]) -> str | None:
    """Parameters that should stay as they are, and that would be trained."""
    moving = [
        name for name, p in model.named_parameters() if frozen(name) and (p.requires_grad or name in reached)
    ]
    return f"meant to stay as they are, and would be trained: {_few(moving)}" if moving else None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def dropout_in_evaluation(model: LanguageModel, batch: Batch) -> str | None:
    """Predictions that are random in evaluation mode."""
    one = row_slice(batch, 0, 1)
    torch.manual_seed(1)
    first = _logits(model, one)
    torch.manual_seed(2)
    return None if torch.equal(first, _logits(model, one)) else "two evaluations of one row differ"


def ties_differ(model: LanguageModel) -> str | None:
    """An output matrix that is not tied as the settings say, or parameters counted twice."""
    tied = model.lm_head.weight is model.decoder.token_embedding.weight
    if tied != model.config.tie_embeddings:
        is_tied = "is" if tied else "is not"
        return f"tie_embeddings: {model.config.tie_embeddings}, and the output matrix {is_tied} the embedding"
    n, wanted = sum(p.numel() for p in model.parameters()), model.config.n_params()["total"]
    return None if n == wanted else f"the model has {n:,} parameters, its settings say {wanted:,}"


def decay_on_norms(model: LanguageModel) -> str | None:
    """Norms, biases or embeddings that weight decay, or an optimizer for matrices, would fall on."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if optimizers.is_matrix(name, parameter)
        and (parameter.ndim < 2 or id(parameter) in looked_up or name.startswith("lm_head"))
    ]
    return f"weight decay falls on {_few(wrong)}" if wrong else None
