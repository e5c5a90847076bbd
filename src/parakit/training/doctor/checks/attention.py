"""What a model attends to: direction, source, padding, and other documents of a packed row. B rows, T tokens."""

from __future__ import annotations

from dataclasses import replace
from functools import partial, singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.tokens.batches.batch import (
    AnyBatch,
    Batch,
    LabelledBatch,
    PairBatch,
    PrefixBatch,
    RankingBatch,
    TextPairBatch,
)
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import (
    depends_on,
    forward,
    micro_batch,
    n_rows,
    outputs,
    outputs_differ,
    real_positions,
    substitute_ids,
    target_segments,
    token_fields,
)
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import row_slice
from parakit.training.doctor.row_formats import DECODER, SEQUENCES
from parakit.training.doctor.turn_markers import boundaries

check = partial(registry.check, subject="Attention", runs_model=True)


def _before_and_after(model: nn.Module, row: Any, **changes: np.ndarray) -> tuple[Tensor, Tensor]:
    """Outputs for a batch as it is, and with changed fields."""
    return outputs(model, row), outputs(model, replace(row, **changes))


def _with_input(model: nn.Module, row: Any, columns: int | slice) -> dict[str, np.ndarray]:
    """The inputs of a batch of one row with other tokens in these columns."""
    input_ids = row.input_ids.copy()
    input_ids[0, columns] = substitute_ids(model, input_ids[0, columns])
    return {"input_ids": input_ids}


@check(
    "attention-direction",
    applies_to=("prefixed_text", *SEQUENCES, "labelled", "text_pairs", "rankings"),
    prevents="An encoder or a prefix attends to the past only, or a decoder attends to the future.",
    noticed_by="The gradient of a position's output by the next position's embedding is zero, or is not.",
    remedy="Build the backbone from its config; tokens of a prefix and of an encoder attend to each other.",
)
def attention_direction(context: CheckContext) -> str | None:
    model, batch = context.model, context.probe
    if isinstance(batch, PrefixBatch):
        return _prefix_is_causal(model, batch)
    name, real = next(iter(token_fields(batch).items()))
    all_ids, real = (one.reshape(-1, one.shape[-1]) for one in (getattr(batch, name), real))
    longest = int(np.argmax(real.sum(axis=1)))
    ids = all_ids[longest][real[longest]][:8]
    if len(ids) < 2:
        return None
    backbone = getattr(model.trunk, "encoder", model.trunk)
    tokens = torch.from_numpy(ids[None]).to(next(model.parameters()).device)
    sees_next = depends_on(backbone.token_embedding, partial(backbone, tokens), (0, 0), (0, 1))
    if isinstance(backbone.config, DecoderConfig):
        return "the decoder's output for a token depends on the one after it" if sees_next else None
    return None if sees_next else "the encoder's output for a token does not depend on the one after it"


def _prefix_is_causal(model: LanguageModel, batch: PrefixBatch) -> str | None:
    pairs = batch.prefix_mask[:, :-1] & batch.prefix_mask[:, 1:]
    pairs &= batch.document_ids[:, :-1] == batch.document_ids[:, 1:]
    if not pairs.any():
        return None
    row, column = np.argwhere(pairs)[0].tolist()
    run = partial(forward, model, micro_batch(model, row_slice(batch, row, row + 1)))
    if depends_on(model.trunk.token_embedding, run, (0, column), (0, column + 1)):
        return None
    return "the output for a token of a prefix does not depend on the one after it"


@check(
    "future-leak",
    applies_to=(*DECODER, "source_target"),
    prevents="A prediction sees its own target: the loss is far too good, and generated text is poor.",
    noticed_by="A later input is changed; predictions before it must stay the same.",
    remedy="Make attention causal wherever a target counts; only a prefix, whose targets do not count, attends both ways.",
)
def future_leak(context: CheckContext) -> str | None:
    model, batch = context.model, context.probe
    if isinstance(batch, PrefixBatch):
        return _targets_visible(model, batch)
    row = row_slice(batch, 0, 1)
    if isinstance(batch, PairBatch):
        long = [(begin, end) for _, begin, end in target_segments(row) if end - begin > 1]
        begin, end = long[0] if long else (0, 1)
    else:
        begin, end = 0, row.input_ids.shape[1]
    if end - begin < 2:
        return None
    before, after = _before_and_after(model, row, **_with_input(model, row, end - 1))
    leaks = outputs_differ(after[:, begin : end - 1], before[:, begin : end - 1], model)
    return "changing the last input of a text changes the predictions before it" if leaks else None


def _targets_visible(model: nn.Module, batch: PrefixBatch) -> str | None:
    counted = batch.loss_mask[:, :-1] & (batch.document_ids[:, :-1] == batch.document_ids[:, 1:])
    for row, column in np.argwhere(counted)[:: max(1, int(counted.sum()) // 8)].tolist():
        one = row_slice(batch, row, row + 1)
        before, after = _before_and_after(model, one, **_with_input(model, one, column + 1))
        if outputs_differ(after[:, column], before[:, column], model):
            return f"row {row}: changing the target of column {column} changes its prediction"
    return None


@check(
    "source-ignored",
    applies_to=("source_target",),
    prevents="The decoder does not read its source: it learns a language model and translates nothing.",
    noticed_by="The gradient of the predictions by the encoder's output is zero.",
    remedy="Give the decoder its cross-attention and the encoder's output.",
)
def source_ignored(context: CheckContext) -> str | None:
    model, rows = context.model, row_slice(context.probe, 0, min(2, n_rows(context.probe)))
    real = torch.from_numpy(real_positions(rows, "target_ids"))
    run = partial(forward, model, micro_batch(model, rows))
    if not real.any() or depends_on(model.trunk.encoder, run, real):
        return None
    return "no prediction depends on the source"


@check(
    "padding-leak",
    applies_to=(*SEQUENCES, "labelled", "text_pairs", "rankings"),
    prevents="Padding is read as text, so an output depends on the other rows of its batch.",
    noticed_by="The last token of two rows is made padding and changed; outputs of real tokens must stay the same.",
    remedy="Pass an attention mask with padded rows.",
)
def padding_leak(context: CheckContext) -> str | None:
    model = context.model
    rows = _shortened(row_slice(context.probe, 0, min(2, n_rows(context.probe))))
    changes = {
        name: np.where(real, getattr(rows, name), substitute_ids(model, getattr(rows, name)))
        for name, real in token_fields(rows).items()
    }
    before, after = (_at_real_positions(rows, out) for out in _before_and_after(model, rows, **changes))
    if not len(before) or not outputs_differ(after, before, model):
        return None
    return "changing the padding changes the outputs of real tokens"


@singledispatch
def _shortened(batch: AnyBatch) -> AnyBatch:
    """`batch` with the last real token of each row turned into padding, where the row has another."""
    raise TypeError(type(batch))


def _drop_last(numbers: np.ndarray) -> np.ndarray:
    """Document numbers (B, T), -1 for padding, without the last token of each row, where its document has another."""
    shorter = numbers.copy()
    for row in shorter:
        columns = np.flatnonzero(row >= 0)
        if len(columns) > 1 and row[columns[-1]] == row[columns[-2]]:
            row[columns[-1]] = -1
    return shorter


def _mask_without_last(real: np.ndarray) -> np.ndarray:
    return _drop_last(np.where(real, 0, -1)) >= 0


@_shortened.register
def _of_tokens(batch: Batch) -> Batch:
    return replace(batch, document_ids=_drop_last(batch.document_ids), single_document=False)


@_shortened.register
def _of_pairs(batch: PairBatch) -> PairBatch:
    if batch.source_document_ids is None:
        return replace(batch, source_mask=_mask_without_last(batch.source_mask))
    numbers = _drop_last(batch.source_document_ids)
    return replace(batch, source_mask=numbers >= 0, source_document_ids=numbers)


@_shortened.register
def _of_labelled(batch: LabelledBatch) -> LabelledBatch:
    return replace(batch, attention_mask=_mask_without_last(batch.attention_mask))


@_shortened.register
def _of_text_pairs(batch: TextPairBatch) -> TextPairBatch:
    return replace(batch, first_mask=_mask_without_last(batch.first_mask))


@_shortened.register
def _of_rankings(batch: RankingBatch) -> RankingBatch:
    real = _mask_without_last(batch.real_mask.reshape(-1, batch.real_mask.shape[-1]))
    return replace(batch, real_mask=real.reshape(batch.real_mask.shape))


def _at_real_positions(batch: AnyBatch, out: Tensor) -> Tensor:
    """Of tokens (B, T, ...) -> (N, ...); of whole rows unchanged."""
    if out.ndim < 3:
        return out
    if isinstance(batch, RankingBatch):
        return out[torch.from_numpy(batch.real_mask[batch.real_mask.any(-1)])]
    name = "target_ids" if isinstance(batch, PairBatch) else "input_ids"
    return out[torch.from_numpy(real_positions(batch, name))]


@check(
    "documents-leak",
    applies_to=(*DECODER, *SEQUENCES),
    prevents="Packed documents attend to each other, or packing changes the loss: a document is read differently than alone.",
    noticed_by="A document of a packed row is changed and the next one's outputs compared; then that one is run alone.",
    remedy="Pass a block-diagonal attention mask with packed rows, and restart positions.",
    sources=("trl #1230", "axolotl PR #3796", "axolotl #3453", "axolotl #3301", "LLaMA-Factory #8277"),
)
def documents_leak(context: CheckContext) -> str | None:
    model, batch = context.model, context.probe
    if context.spec.row_format in ("text", "conversations"):
        return _token_documents_leak(model, batch, context.document_start)
    ids_field, field = "input_ids", "document_ids"
    if isinstance(batch, PairBatch):
        ids_field, field = "source_ids", "source_document_ids"
    numbers = getattr(batch, field)
    if numbers is None:
        return None
    starts = np.argwhere((numbers[:, 1:] != numbers[:, :-1]) & (numbers[:, 1:] >= 0) & (numbers[:, :-1] >= 0))
    if not len(starts):
        return None
    row, column = starts[0].tolist()
    one, (first, second) = row_slice(batch, row, row + 1), numbers[row, column : column + 2]
    ids = getattr(one, ids_field)
    changed = np.where(numbers[row] == first, substitute_ids(model, ids), ids)
    before, after = _before_and_after(model, one, **{ids_field: changed})
    own = torch.from_numpy(one.document_ids == second)
    if outputs_differ(after[own], before[own], model):
        return "changing a text changes the outputs of the next one in its row"
    if not isinstance(batch, PrefixBatch) and outputs_differ(
        _alone(model, one, second)[0], before[own], model
    ):
        return "the outputs of a text in a packed row differ from those of the text alone"
    return None


def _token_documents_leak(model: nn.Module, batch: Batch, start_id: int | None) -> str | None:
    starts = boundaries(batch, 0, start_id)
    if not starts:
        return None
    row = row_slice(batch, 0, 1)
    n_real = int((row.document_ids[0] >= 0).sum())
    begin, end = starts[0], [*starts[1:], n_real][0]
    before, after = _before_and_after(model, row, **_with_input(model, row, slice(0, begin)))
    if outputs_differ(after[:, begin:n_real], before[:, begin:n_real], model):
        return "changing a token of one document changes the predictions of the next one in its row"
    if outputs_differ(_run_alone(model, row.input_ids[:, begin:end]), before[:, begin:end], model):
        return "the outputs of a document in a packed row differ from those of the document alone"
    return None


def _alone(model: nn.Module, one: Batch | PairBatch, number: int) -> Tensor:
    """The outputs for one of a row's documents, without any mask."""
    target = one.input_ids[one.document_ids == number][None]
    if isinstance(one, PairBatch):
        return _run_alone(model, one.source_ids[one.source_document_ids == number][None], target)
    return _run_alone(model, target)


@torch.no_grad()
def _run_alone(model: nn.Module, *ids: np.ndarray) -> Tensor:
    device = next(model.parameters()).device
    return model(*(torch.from_numpy(side).to(device) for side in ids)).double().cpu()
