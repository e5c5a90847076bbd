"""Checks by behaviour for encoders and encoder-decoders (pitfalls 1, 11, 14, 16): what a model looks at, and whether
its objective is the loss that it should be.

Each function takes what it looks at and returns the fault in words, or None. They run inside
`probes.tried_out`. Shapes: B rows, T tokens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from parakit.model.backbones import Decoder
from parakit.tokens.batches.batch import (
    Batch,
    LabelledBatch,
    PairBatch,
    PrefixBatch,
    RankingBatch,
    TextPairBatch,
)
from parakit.training.doctor.probes import counted_as, row_slice, unevenly_counted
from parakit.training.doctor.tasks.row_checks import targets
from parakit.training.doctor.views import (
    differ,
    micro_batch,
    n_rows,
    other_ids,
    outputs,
    real_places,
    run,
    token_fields,
)
from parakit.training.micro_batches import LabelledMicroBatch, Objective

# ---- what is looked at


@torch.no_grad()
def looks_wrong_way(model: Any, batch: Any) -> str | None:
    """An encoder that sees only what came before, or a decoder that sees what comes after."""
    name, real = next(iter(token_fields(batch).items()))
    all_ids, real = (one.reshape(-1, one.shape[-1]) for one in (getattr(batch, name), real))
    longest = int(np.argmax(real.sum(axis=1)))
    ids = all_ids[longest][real[longest]][:8]
    if len(ids) < 2:
        return None
    trunk = getattr(model.trunk, "encoder", model.trunk)
    changed = ids.copy()
    changed[1] = other_ids(model, ids[1])
    device = next(model.parameters()).device
    before, after = (trunk(torch.from_numpy(one[None]).to(device)).double().cpu() for one in (ids, changed))
    sees = differ(after[:, :1], before[:, :1], model)
    if isinstance(trunk, Decoder):
        return "changing a token changes what the decoder makes of the one before it" if sees else None
    return None if sees else "changing a token does not change what the encoder makes of the one before it"


def padding_seen(model: Any, batch: Any) -> str | None:
    """Padding that changes what is made of real tokens. The last token of each row is taken for padding here."""
    one = _shortened(row_slice(batch, 0, min(2, n_rows(batch))))
    changes = {
        name: np.where(real, getattr(one, name), other_ids(model, getattr(one, name)))
        for name, real in token_fields(one).items()
    }
    before, after = _answers(one, outputs(model, one)), _answers(one, outputs(model, replace(one, **changes)))
    if not len(before) or not differ(after, before, model):
        return None
    return "changing what stands in the padding changes what is made of real tokens"


@singledispatch
def _shortened(batch: Any) -> Any:
    """`batch` with the last real token of each row turned into padding, where it has another."""
    raise TypeError(type(batch))


def _but_last(numbers: np.ndarray) -> np.ndarray:
    """Document numbers (B, T), -1 for padding, without the last token of each row, where its document has another."""
    kept = numbers.copy()
    for row in kept:
        places = np.flatnonzero(row >= 0)
        if len(places) > 1 and row[places[-1]] == row[places[-2]]:
            row[places[-1]] = -1
    return kept


def _real_but_last(real: np.ndarray) -> np.ndarray:
    return _but_last(np.where(real, 0, -1)) >= 0


@_shortened.register
def _of_tokens(batch: Batch) -> Batch:
    return replace(batch, document_ids=_but_last(batch.document_ids), single_document=False)


@_shortened.register
def _of_pairs(batch: PairBatch) -> PairBatch:
    if batch.source_document_ids is None:
        return replace(batch, source_mask=_real_but_last(batch.source_mask))
    kept = _but_last(batch.source_document_ids)
    return replace(batch, source_mask=kept >= 0, source_document_ids=kept)


@_shortened.register
def _of_labelled(batch: LabelledBatch) -> LabelledBatch:
    return replace(batch, attention_mask=_real_but_last(batch.attention_mask))


@_shortened.register
def _of_text_pairs(batch: TextPairBatch) -> TextPairBatch:
    return replace(batch, first_mask=_real_but_last(batch.first_mask))


@_shortened.register
def _of_rankings(batch: RankingBatch) -> RankingBatch:
    real = _real_but_last(batch.real_mask.reshape(-1, batch.real_mask.shape[-1]))
    return replace(batch, real_mask=real.reshape(batch.real_mask.shape))


def _answers(batch: Any, out: Tensor) -> Tensor:
    """The outputs at real places: of tokens (B, T, ...) -> (N, ...); of rows all."""
    if out.ndim < 3:
        return out
    if isinstance(batch, RankingBatch):
        return out[torch.from_numpy(batch.real_mask[batch.real_mask.any(-1)])]
    return out[
        torch.from_numpy(real_places(batch, "target_ids" if isinstance(batch, PairBatch) else "input_ids"))
    ]


def target_future_leaks(model: Any, batch: PairBatch) -> str | None:
    """A target token that changes what was predicted before it: the decoder sees its own answer."""
    one = row_slice(batch, 0, 1)
    found = [(begin, end) for _, begin, end in targets(one) if end - begin > 1]
    if not found:
        return None
    begin, end = found[0]
    input_ids = one.input_ids.copy()
    input_ids[0, end - 1] = other_ids(model, input_ids[0, end - 1])
    before, after = outputs(model, one), outputs(model, replace(one, input_ids=input_ids))
    leaks = differ(after[:, begin : end - 1], before[:, begin : end - 1], model)
    return "changing a target's last input changes the predictions before it" if leaks else None


def source_ignored(model: Any, batch: PairBatch) -> str | None:
    """Predictions that do not depend on the source. A fresh model's do: its zeros are filled."""
    one = row_slice(batch, 0, min(2, n_rows(batch)))
    changed = np.where(one.source_mask, other_ids(model, one.source_ids), one.source_ids)
    before, after = outputs(model, one), outputs(model, replace(one, source_ids=changed))
    real = torch.from_numpy(real_places(one, "target_ids"))
    if not real.any() or differ(after[real], before[real], model):
        return None
    return "changing the whole source changes no prediction"


def answers_visible(model: Any, batch: Batch) -> str | None:
    """A counted place that sees the token it is to predict."""
    counted = batch.loss_mask[:, :-1] & (batch.document_ids[:, :-1] == batch.document_ids[:, 1:])
    for row, column in np.argwhere(counted)[:: max(1, int(counted.sum()) // 8)]:
        one = row_slice(batch, int(row), int(row) + 1)
        input_ids = one.input_ids.copy()
        input_ids[0, column + 1] = other_ids(model, input_ids[0, column + 1])
        before, after = outputs(model, one), outputs(model, replace(one, input_ids=input_ids))
        if differ(after[:, column], before[:, column], model):
            return f"row {row}: changing the target of column {column} changes its prediction"
    return None


def prefix_one_way(model: Any, batch: PrefixBatch) -> str | None:
    """A prefix that is read one way only, as the rest is."""
    pairs = batch.prefix_mask[:, :-1] & batch.prefix_mask[:, 1:]
    pairs &= batch.document_ids[:, :-1] == batch.document_ids[:, 1:]
    if not pairs.any():
        return None
    row, column = np.argwhere(pairs)[0]
    one = row_slice(batch, int(row), int(row) + 1)
    input_ids = one.input_ids.copy()
    input_ids[0, column + 1] = other_ids(model, input_ids[0, column + 1])
    before, after = outputs(model, one), outputs(model, replace(one, input_ids=input_ids))
    if differ(after[:, column], before[:, column], model):
        return None
    return "changing a token of a prefix does not change what is made of the one before it"


# ---- rows of several documents


def documents_leak(model: Any, batch: Any) -> str | None:
    """A document that changes what is made of another in its row, or is read otherwise than it would be alone."""
    ids_field, field = "input_ids", "document_ids"
    if isinstance(batch, PairBatch):
        ids_field, field = "source_ids", "source_document_ids"
    numbers = getattr(batch, field)
    if numbers is None:
        return None
    met = np.argwhere((numbers[:, 1:] != numbers[:, :-1]) & (numbers[:, 1:] >= 0) & (numbers[:, :-1] >= 0))
    if not len(met):
        return None
    row, column = met[0].tolist()
    one, (first, second) = row_slice(batch, row, row + 1), numbers[row, column : column + 2]
    ids = getattr(one, ids_field)
    changed = np.where(numbers[row] == first, other_ids(model, ids), ids)
    before, after = outputs(model, one), outputs(model, replace(one, **{ids_field: changed}))
    own = torch.from_numpy(one.document_ids == second)
    if differ(after[own], before[own], model):
        return "changing a text changes what is made of the next one in its row"
    if not isinstance(batch, PrefixBatch) and differ(_alone(model, one, second)[0], before[own], model):
        return "a text in a packed row is not read as it is alone"
    return None


@torch.no_grad()
def _alone(model: Any, one: Any, number: int) -> Tensor:
    """What the model makes of a row's document by itself, with no mask at all."""
    device = next(model.parameters()).device
    ids = [one.input_ids[one.document_ids == number]]
    if isinstance(one, PairBatch):
        ids.insert(0, one.source_ids[one.source_document_ids == number])
    return model(*(torch.from_numpy(side[None]).to(device) for side in ids)).double().cpu()


# ---- the loss that it should be


@torch.no_grad()
def _reference(model: Any, batch: Any) -> tuple[float, float]:
    """The loss that an objective should have, in float64; and for tokens what it would be if every token of the
    vocabulary were as right.
    """
    micro = micro_batch(model, batch)
    out = run(model, micro).double()
    if isinstance(micro, LabelledMicroBatch):
        labels = micro.labels
        if model.classes.regression:
            return float((out.squeeze(-1) - labels.double()).square().sum()), 0.0
        if micro.loss_mask is not None:
            out, labels = out[micro.loss_mask], labels[micro.loss_mask]
        return float(functional.cross_entropy(out, labels, reduction="sum")), 0.0
    mask = torch.ones_like(micro.target_ids, dtype=torch.bool) if micro.loss_mask is None else micro.loss_mask
    log_p = out[mask].log_softmax(-1)
    return float(functional.nll_loss(log_p, micro.target_ids[mask], reduction="sum")), float(
        -log_p.mean(-1).sum()
    )


def objective_differs(model: Any, batch: Any, objective: Objective) -> str | None:
    """A loss that is not the sum over what counts. Label smoothing may mix one and the same share of the even
    distribution into all targets of an encoder-decoder.
    """
    found = []
    for one in (unevenly_counted(batch), counted_as(row_slice(batch, 0, 1))):
        if one.n_counted:
            with torch.no_grad():
                loss = float(objective(model, micro_batch(model, one)))
            found.append((loss, *_reference(model, one)))
    if all(abs(loss - wanted) <= 1e-3 * max(abs(wanted), 1e-6) for loss, wanted, _ in found):
        return None
    shares = [(loss - wanted) / (even - wanted) if even != wanted else np.nan for loss, wanted, even in found]
    smooth = isinstance(batch, PairBatch) and all(0 < share < 0.9 for share in shares)
    if smooth and abs(shares[0] - shares[-1]) < 5e-3:
        return None
    loss, wanted, _ = found[0]
    return f"the loss is {loss:.6g}, and what counts sums to {wanted:.6g}"
