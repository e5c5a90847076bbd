"""Pairs of source and target: span corruption, translation, prefixes of an encoder-decoder."""

from __future__ import annotations

from functools import partial

import numpy as np

from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import n_rows, target_positions, target_segments
from parakit.training.doctor.context import CheckContext

check = partial(registry.check, subject="Sources and targets")
MAX_COPIED_SHARE = 0.9  # of the pairs whose target is their source


@check(
    "source-empty",
    applies_to=("source_target",),
    blocking=True,
    prevents="A target without a source trains the decoder to ignore its encoder.",
    noticed_by="Every counted target of the first batch must have tokens in its source.",
    remedy="Encode the data again with this version and this tokenizer.",
)
def source_empty(context: CheckContext) -> str | None:
    batch, n = context.batch, 0
    for row, begin, end in target_segments(batch):
        source = batch.source_mask[row]
        if batch.source_document_ids is not None and batch.document_ids is not None:
            source = batch.source_document_ids[row] == batch.document_ids[row, begin]
        n += bool(batch.loss_mask[row, begin:end].any() and not source.any())
    return f"{n} targets have no source" if n else None


@check(
    "decoder-start",
    applies_to=("source_target",),
    prevents="Training starts the decoder with another id than generation does, so the first token is guessed.",
    noticed_by="The first input of every target is compared with decoder_start_id.",
    remedy="Begin every target with the model's decoder_start_id.",
)
def decoder_start(context: CheckContext) -> str | None:
    start_id = context.model.config.decoder_start_id
    first = [int(context.batch.input_ids[row, begin]) for row, begin, _ in target_segments(context.batch)]
    wrong = [token_id for token_id in first if token_id != start_id]
    return (
        f"{len(wrong)} targets begin with input {wrong[0]}, the decoder starts with {start_id}"
        if wrong
        else None
    )


@check(
    "source-is-target",
    applies_to=("translate",),
    prevents="Source and target are one text, and the model learns to copy.",
    noticed_by=f"Sampled sources and targets are compared; at most {MAX_COPIED_SHARE:.0%} may be equal.",
    remedy="Look at the examples: one column is probably used twice.",
)
def source_is_target(context: CheckContext) -> str | None:
    special = list(context.tokenizer.control_ids)
    same = n = 0
    for batch in context.sample:
        real = target_positions(batch)
        for row in range(n_rows(batch)):
            sides = batch.source_ids[row][batch.source_mask[row]], batch.target_ids[row][real[row]]
            source, target = (side[~np.isin(side, special)] for side in sides)
            n += 1
            same += np.array_equal(source, target)
    return f"in {same} of {n} pairs the target is the source" if n and same > MAX_COPIED_SHARE * n else None


@check(
    "sentinels-differ",
    applies_to=("span_corruption",),
    prevents="Without equal sentinels in source and target the model cannot know which span goes where.",
    noticed_by="The sentinels of each source are compared with its target's, in their order.",
    remedy="Mark every removed span with the same sentinel in source and target.",
)
def sentinels_differ(context: CheckContext) -> str | None:
    batch, sentinels = context.batch, context.tokenizer.sentinel_ids
    in_source = np.where(np.isin(batch.source_ids, sentinels) & batch.source_mask, batch.source_ids, -1)
    in_target = np.where(np.isin(batch.target_ids, sentinels) & target_positions(batch), batch.target_ids, -1)
    if (in_source < 0).all():
        return "no source has a sentinel, so nothing marks where spans are missing"
    for row in range(n_rows(batch)):
        source, target = (side[row][side[row] >= 0] for side in (in_source, in_target))
        if not np.array_equal(source, target):
            return f"row {row}: the source has {len(source)} sentinels, its target {len(target)}, or in another order"
    return None
