"""Checks by behaviour (pitfalls 14, 16, 17, 19, 20): a decoder and its objective are run on a small probe, and what
they do is looked at. The last three are for models of any kind.

Each function takes what it looks at and returns the fault in words, or None. They run inside
`probes.tried_out`. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from parakit.model.adapters import own_parameters
from parakit.model.heads import LanguageModel
from parakit.model.layers.positions import LearnedPositions
from parakit.tokens.batches.batch import Batch
from parakit.training.doctor.gradients import few
from parakit.training.doctor.probes import row_slice, unevenly_counted
from parakit.training.doctor.turns import breaks
from parakit.training.doctor.views import differ, micro_batch, other_ids, outputs, run
from parakit.training.micro_batches import MicroBatch, Objective
from parakit.training.optimizers import optimizer as optimizers


def _with_inputs(batch: Batch, row: int, columns: slice, model: LanguageModel) -> Batch:
    """`batch` with other tokens in `columns` of `row`."""
    input_ids = batch.input_ids.copy()
    input_ids[row, columns] = other_ids(model, input_ids[row, columns])
    return replace(batch, input_ids=input_ids)


def future_leaks(model: LanguageModel, batch: Batch) -> str | None:
    """A token that changes what was predicted before it."""
    one = row_slice(batch, 0, 1)
    last = one.input_ids.shape[1] - 1
    before, after = outputs(model, one), outputs(model, _with_inputs(one, 0, slice(last, None), model))
    if last and differ(after[:, :last], before[:, :last], model):
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
    before = outputs(model, one)
    changed = outputs(model, _with_inputs(one, 0, slice(0, begin), model))
    if differ(changed[:, begin:real], before[:, begin:real], model):
        return "changing a token of one document changes the predictions of the next one in its row"
    with torch.no_grad():
        alone = (
            model(torch.from_numpy(one.input_ids[:, begin:end]).to(next(model.parameters()).device))
            .double()
            .cpu()
        )
    if differ(alone, before[:, begin:end], model):
        return "a document in a packed row is not read as it is alone"
    return None


@torch.no_grad()
def _cross_entropy(model: LanguageModel, micro: MicroBatch, ahead: int = 0) -> float:
    """The summed loss of the counted targets, taken here in float64; `ahead` reads the targets of so many
    columns further on.
    """
    logits = run(model, micro).double()
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


def dropout_in_evaluation(model: nn.Module, batch: Any) -> str | None:
    """Predictions that are random in evaluation mode."""
    one = row_slice(batch, 0, 1)
    torch.manual_seed(1)
    first = outputs(model, one)
    torch.manual_seed(2)
    return None if torch.equal(first, outputs(model, one)) else "two evaluations of one row differ"


def ties_differ(model: Any) -> str | None:
    """An output matrix that is not tied as the settings say, or parameters counted twice."""
    tied = model.lm_head.weight is model.trunk.token_embedding.weight
    if tied != model.config.tie_embeddings:
        is_tied = "is" if tied else "is not"
        return f"tie_embeddings: {model.config.tie_embeddings}, and the output matrix {is_tied} the embedding"
    n = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in own_parameters(model).values())
    wanted = model.trunk.config.n_params()["total"]
    return None if n == wanted else f"the model has {n:,} parameters, its settings say {wanted:,}"


def decay_on_norms(model: nn.Module) -> str | None:
    """Norms, biases, embeddings or heads that weight decay, or an optimizer for matrices, would fall on."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | LearnedPositions)}
    wrong = [
        name
        for name, parameter in model.named_parameters()
        if optimizers.is_matrix(name, parameter)
        and (parameter.ndim < 2 or id(parameter) in looked_up or name.split(".")[0].endswith("_head"))
    ]
    return f"weight decay falls on {few(wrong)}" if wrong else None
