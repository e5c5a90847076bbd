"""Checks on rows of any kind (pitfalls 1, 2, 10, 11, 24), of masked tokens (16), and of pairs (4, 16): what counts,
what is hidden, where a target begins and ends.

Each function takes what it looks at and returns the fault in words, or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.tokens.batches.batch import Batch, LabelledBatch, PairBatch
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.doctor import batch_checks
from parakit.training.doctor.turns import runs
from parakit.training.doctor.views import countable, n_rows, row_content, target_places, token_fields

LEAST_MASKED_SHARE = 0.1  # of the chosen places that show MASK; 0.8 is usual
MOST_CHOSEN_SHARE = 0.9  # of a text that is hidden
MOST_COPIED_SHARE = 0.9  # of the pairs whose target is their source

# ---- rows of any kind


def ids_outside(batches: Sequence[Any], vocab_size: int) -> str | None:
    """Ids that the embedding has no row for."""
    greatest = max(int(getattr(b, name).max(initial=0)) for b in batches for name in token_fields(b))
    if greatest < vocab_size:
        return None
    return f"the rows hold id {greatest}, the model's vocabulary ends at {vocab_size - 1}"


def nothing_counts(batches: Sequence[Any]) -> str | None:
    """No target in sight."""
    n = sum(map(n_rows, batches))
    return None if any(batch.n_counted for batch in batches) else f"nothing counts in the first {n} rows"


def too_long(batches: Sequence[Any], config: ModelConfig) -> str | None:
    """Rows that are longer than the model's window."""
    for batch in batches:
        for name, real in token_fields(batch).items():
            limit = config.max_seq_len
            if isinstance(config, EncoderDecoderConfig):
                limit = (config.encoder if name == "source_ids" else config.decoder).max_seq_len
            if real.shape[-1] > limit:
                return f"{name} are {real.shape[-1]} wide, the model's window has {limit} tokens"
    return None


def loss_on_padding(batch: Any, pad_id: int | None) -> str | None:
    """Padding that counts."""
    if isinstance(batch, Batch):
        return batch_checks.loss_on_padding(batch, pad_id)
    if getattr(batch, "loss_mask", None) is None:
        return None
    wrong = np.zeros_like(batch.loss_mask)
    if isinstance(batch, LabelledBatch):
        wrong = batch.loss_mask & ~batch.attention_mask
    elif pad_id is not None:
        wrong = batch.loss_mask & (batch.target_ids == pad_id)
    n = int(wrong.sum())
    return f"{n} of {int(batch.loss_mask.sum())} counted targets are padding" if n else None


def count_differs(batch: Any) -> str | None:
    """The number that the loss is divided by is not the number of what counts."""
    mask = getattr(batch, "loss_mask", None)
    n = n_rows(batch) if mask is None or countable(batch) is None else int(mask.sum())
    return None if n == batch.n_counted else f"n_counted says {batch.n_counted}, and {n} count"


def rows_change(source: Any, batch: Any) -> str | None:
    """Rows that differ when they are asked for again, or in other portions: then a resume is none."""
    n = n_rows(batch)
    cut = max(1, n // 3)
    portions = [(0, cut), (cut, n)] if n > cut else [(0, n)]
    for begin, end in portions:
        part = source.rows(begin, end - begin)
        for row in range(end - begin):
            held, before = row_content(part, row), row_content(batch, begin + row)
            if not all(map(np.array_equal, held, before)):
                return f"row {begin + row} differs when it is read again in two portions"
    return None


# ---- masked tokens


def mask_absent(batches: Sequence[Batch], mask_id: int | None) -> str | None:
    """Chosen places that show what they should hide."""
    shown = np.concatenate([batch.input_ids[batch.loss_mask] for batch in batches])
    n = int((shown == mask_id).sum())
    if mask_id is not None and n >= LEAST_MASKED_SHARE * len(shown):
        return None
    return f"{n} of {len(shown)} places to be guessed show MASK"


def mask_everywhere(batches: Sequence[Batch]) -> str | None:
    """Nothing is left to guess from."""
    n, chosen = (sum(int(part.sum()) for part in parts) for parts in _real_and_chosen(batches))
    return f"{chosen} of {n} tokens are hidden" if chosen > MOST_CHOSEN_SHARE * n else None


def _real_and_chosen(batches: Sequence[Batch]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [batch.document_ids >= 0 for batch in batches], [batch.loss_mask for batch in batches]


def special_masked(batches: Sequence[Batch], tokenizer: Tokenizer) -> str | None:
    """Control tokens that are to be guessed."""
    targets = np.concatenate([batch.target_ids[batch.loss_mask] for batch in batches])
    wrong = targets[np.isin(targets, list(tokenizer.control_ids))]
    if not len(wrong):
        return None
    return f"{len(wrong)} of {len(targets)} places to be guessed hold a control token, {tokenizer.token(int(wrong[0]))!r}"


def masked_targets_shift(batch: Batch) -> str | None:
    """Targets that are not the tokens of their own places."""
    rest = (batch.document_ids >= 0) & ~batch.loss_mask
    n, wrong = int(rest.sum()), int(((batch.input_ids != batch.target_ids) & rest).sum())
    if wrong <= 0.5 * n:
        return None
    ahead = (batch.target_ids[:, :-1] == batch.input_ids[:, 1:])[rest[:, 1:]].mean()
    if ahead > 0.5:
        return "targets lie one token ahead: a hidden token is its own place's target"
    return f"{wrong} of {n} tokens that are not hidden differ from their targets"


def framed_documents_unmarked(batch: Batch, cls_id: int | None) -> str | None:
    """Texts that meet in a row under one document id, or rows with padding that are said to have none."""
    opens = (batch.target_ids[:, 1:] == cls_id) & (batch.document_ids[:, 1:] >= 0)
    lost = opens & (batch.document_ids[:, 1:] == batch.document_ids[:, :-1])
    if cls_id is not None and lost.any():
        row, column = np.argwhere(lost)[0]
        return f"row {row}: another text begins at column {column + 1}, and the document id stays the same"
    if batch.single_document and (batch.document_ids != 0).any():
        return "rows hold padding or several texts, and the batch says that each row is one text"
    return None


# ---- sources and targets


def wrong_start(batch: PairBatch, start_id: int) -> str | None:
    """Targets whose first input is not the id that starts every target."""
    wrong = [int(batch.input_ids[row, begin]) for row, begin, _ in targets(batch)]
    wrong = [found for found in wrong if found != start_id]
    return (
        f"{len(wrong)} targets begin with input {wrong[0]}, the decoder starts with {start_id}"
        if wrong
        else None
    )


def targets_shift(batch: PairBatch) -> str | None:
    """Target inputs that are not the targets of one place before."""
    right = n = equal = 0
    for row, begin, end in targets(batch):
        inputs, wanted = batch.input_ids[row, begin:end], batch.target_ids[row, begin:end]
        n += len(wanted) - 1
        right += int((inputs[1:] == wanted[:-1]).sum())
        equal += int((inputs[:-1] == wanted[:-1]).sum())
    if right >= 0.9 * n:
        return None
    if equal > 0.9 * n:
        return "target inputs are the targets themselves: not shifted at all"
    return f"only {right / n:.0%} of the target inputs are the target before: shifted twice?"


def eos_not_counted(batches: Sequence[PairBatch], eos_id: int | None) -> str | None:
    """No target ends with a counted EOS: the model never stops."""
    if eos_id is None:
        return "the tokenizer has no EOS"
    counted = sum(int(((b.target_ids == eos_id) & b.loss_mask).sum()) for b in batches)
    n = sum(len(targets(batch)) for batch in batches)
    return None if counted else f"not one of {n} targets has an EOS that counts"


def source_empty(batch: PairBatch) -> str | None:
    """Targets that count and have nothing to look at."""
    n = 0
    for row, begin, end in targets(batch):
        own = batch.source_mask[row]
        if batch.source_document_ids is not None and batch.document_ids is not None:
            own = batch.source_document_ids[row] == batch.document_ids[row, begin]
        n += bool(batch.loss_mask[row, begin:end].any() and not own.any())
    return f"{n} targets have no source" if n else None


def source_is_target(batches: Sequence[PairBatch], tokenizer: Tokenizer) -> str | None:
    """Targets that are their own source: a column taken twice."""
    special = list(tokenizer.control_ids)
    same = n = 0
    for batch in batches:
        real = target_places(batch)
        for row in range(n_rows(batch)):
            sides = batch.source_ids[row][batch.source_mask[row]], batch.target_ids[row][real[row]]
            source, target = (side[~np.isin(side, special)] for side in sides)
            n += 1
            same += np.array_equal(source, target)
    return f"in {same} of {n} pairs the target is the source" if n and same > MOST_COPIED_SHARE * n else None


def sentinels_differ(batch: PairBatch, tokenizer: Tokenizer) -> str | None:
    """Sources without sentinels, or with others than their targets."""
    sentinels = tokenizer.sentinel_ids
    in_source = np.where(np.isin(batch.source_ids, sentinels) & batch.source_mask, batch.source_ids, -1)
    in_target = np.where(np.isin(batch.target_ids, sentinels) & target_places(batch), batch.target_ids, -1)
    if (in_source < 0).all():
        return "no source holds a sentinel, so nothing says where spans are missing"
    for row in range(n_rows(batch)):
        source, target = (one[row][one[row] >= 0] for one in (in_source, in_target))
        if not np.array_equal(source, target):
            return f"row {row}: the source has {len(source)} sentinels, its target {len(target)}, or in another order"
    return None


def targets(batch: PairBatch) -> list[tuple[int, int, int]]:
    """Row, begin and end of each target."""
    real = target_places(batch)
    numbers = np.where(real, 0 if batch.document_ids is None else batch.document_ids, -1)
    return [
        (row, begin, end)
        for row in range(len(numbers))
        for begin, end in runs(numbers[row])
        if numbers[row, begin] >= 0
    ]
