"""Targets of a batch: something counts, targets are the inputs shifted once, padding does not count, ends do."""

from __future__ import annotations

from functools import partial

import numpy as np

from parakit.tokens.batches.batch import Batch, LabelledBatch, MaskedBatch, PairBatch, RankingBatch
from parakit.training.doctor import registry
from parakit.training.doctor.batch_views import n_rows, target_segments
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.openings import lost_by_template, padding_only_id
from parakit.training.doctor.row_formats import ALL, DECODER, SEQUENCES

check = partial(registry.check, subject="Labels")
MAX_DOCUMENT = 2048  # tokens of a sampled document; a longer one is cut and has no end


@check(
    "all-masked",
    applies_to=ALL,
    blocking=True,
    prevents="Every label is masked: the loss is 0 or NaN and the model learns nothing, while the run looks healthy.",
    noticed_by="Counted tokens are searched for in sampled documents and in the first batch.",
    remedy="Look at the data with `parakit doctor --show`; in conversations only the assistant's turns count.",
    sources=("trl #3927", "trl #6668", "unsloth #2900", "unsloth #11321", "marin #7237", "trl PR #5988"),
)
def all_masked(context: CheckContext) -> str | None:
    batch = context.batch
    if context.spec.row_format not in DECODER:
        return None if batch.n_counted else f"nothing counts in the first {n_rows(batch)} rows"
    if not any(any(document.counted[1:]) for document in context.documents):
        reason = lost_by_template(context.tokenizer) if context.spec.row_format == "conversations" else None
        why = f": {reason}" if reason else ""
        return f"none of {len(context.documents)} sampled documents has a counted token{why}"
    return None if batch.loss_mask.any() else "the first batch has no counted token"


@check(
    "targets-shift",
    applies_to=(*DECODER, *SEQUENCES, "rankings"),
    prevents="Targets are shifted twice or not at all: the model learns to skip a token, or to copy its input.",
    noticed_by="Targets of the first batch are compared with its inputs.",
    remedy="Make inputs and targets from one sequence and shift it once, in the batch; a masked token's target is the"
    " token at its own position.",
)
def targets_shift(context: CheckContext) -> str | None:
    batch = context.batch
    if isinstance(batch, MaskedBatch):
        return _masked_targets_shift(batch)
    if isinstance(batch, PairBatch):
        return _pair_targets_shift(batch)
    if isinstance(batch, RankingBatch):
        both = batch.real_mask[..., :-1] & batch.real_mask[..., 1:]
        wrong = int((batch.target_ids[..., :-1] != batch.input_ids[..., 1:])[both].sum())
        return f"{wrong} of {int(both.sum())} targets are not the next input" if wrong else None
    return _token_targets_shift(batch)


def _token_targets_shift(batch: Batch) -> str | None:
    inputs, targets, documents = batch.input_ids, batch.target_ids, batch.document_ids
    within = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] >= 0)
    right = float((targets[:, :-1] == inputs[:, 1:])[within].mean()) if within.any() else 1.0
    if right > 0.5:  # a few breaks are documents without a boundary, which `documents-not-separated` reports
        return None
    if (inputs == targets)[documents >= 0].mean() > 0.9:
        return "targets are the inputs themselves: not shifted at all"
    twice = (documents[:, 2:] == documents[:, :-2]) & (documents[:, 2:] >= 0)
    if twice.any() and (targets[:, :-2] == inputs[:, 2:])[twice].mean() > 0.9:
        return "targets are two tokens ahead: shifted twice"
    return f"only {right:.0%} of the targets are the next input"


def _masked_targets_shift(batch: Batch) -> str | None:
    visible = (batch.document_ids >= 0) & ~batch.loss_mask
    n, wrong = int(visible.sum()), int(((batch.input_ids != batch.target_ids) & visible).sum())
    if wrong <= 0.5 * n:
        return None
    ahead = (batch.target_ids[:, :-1] == batch.input_ids[:, 1:])[visible[:, 1:]].mean()
    if ahead > 0.5:
        return "targets are one token ahead: a masked token is its own position's target"
    return f"{wrong} of {n} tokens that are not masked differ from their targets"


def _pair_targets_shift(batch: PairBatch) -> str | None:
    right = n = equal = 0
    for row, begin, end in target_segments(batch):
        inputs, targets = batch.input_ids[row, begin:end], batch.target_ids[row, begin:end]
        n += len(targets) - 1
        right += int((inputs[1:] == targets[:-1]).sum())
        equal += int((inputs[:-1] == targets[:-1]).sum())
    if right >= 0.9 * n:
        return None
    if equal > 0.9 * n:
        return "target inputs are the targets themselves: not shifted at all"
    return f"only {right / n:.0%} of the target inputs are the previous target: shifted twice?"


@check(
    "no-end-of-text",
    applies_to=("text", "prefixed_text", "source_target"),
    prevents="The end of a text is never a counted target, so the model never stops.",
    noticed_by="Counted EOS targets are searched for in sampled documents and in the first batch.",
    remedy="Encode the data again with this version and this tokenizer; EOS ends every document and counts.",
)
def no_end_of_text(context: CheckContext) -> str | None:
    eos_id, batch = context.tokenizer.eos_id, context.batch
    if eos_id is None:
        return "the tokenizer has no EOS"
    if isinstance(batch, PairBatch):
        counted = ((batch.target_ids == eos_id) & batch.loss_mask).any()
        return None if counted else f"none of {len(target_segments(batch))} targets has a counted EOS"
    documents = context.documents
    n_open = sum(d.token_ids[-1] != eos_id for d in documents if len(d.token_ids) < MAX_DOCUMENT)
    if n_open:
        return f"{n_open} of {len(documents)} documents do not end in EOS"
    ends = [
        counted
        for span in context.row_spans
        for token_id, counted in zip(span.token_ids[1:], span.counted[1:], strict=True)
        if token_id == eos_id
    ]
    return None if all(ends) else f"{len(ends) - sum(ends)} of {len(ends)} EOS targets do not count"


@check(
    "ends-measured-as-text",
    applies_to=("text",),
    blocking=False,
    prevents="End tokens count in the bits per byte of a text that has none, and the figure compares with no other.",
    noticed_by="The control tokens that end sampled documents are compared with the end tokens that the shards name.",
    remedy="Encode the data again with this version and this tokenizer.",
)
def ends_measured_as_text(context: CheckContext) -> str | None:
    control, named = context.tokenizer.control_ids, set(getattr(context.shards, "end_ids", ()))
    ends = [
        document.token_ids[-1] for document in context.documents if len(document.token_ids) < MAX_DOCUMENT
    ]
    unnamed = [end for end in ends if end in control - named]
    if not unnamed:
        return None
    token = context.tokenizer.token(unnamed[0])
    return f"{len(unnamed)} of {len(ends)} documents end with {token!r}, which the shards do not name as an end token"


@check(
    "loss-on-padding",
    applies_to=(*DECODER, *SEQUENCES, "tag", "rankings"),
    prevents="Padding counts as a target: the loss falls because the model learns to predict padding.",
    noticed_by="The loss mask of the first batch is compared with its padding.",
    remedy="Leave padding out of the loss mask.",
    sources=("nanochat #570", "axolotl #2089"),
)
def loss_on_padding(context: CheckContext) -> str | None:
    batch = context.batch
    if batch.loss_mask is None:
        return None
    pad_id = padding_only_id(context.tokenizer, context.spec.row_format)
    n = int((batch.loss_mask & _padding(batch, pad_id)).sum())
    return f"{n} of {int(batch.loss_mask.sum())} counted targets are padding" if n else None


def _padding(batch: Batch | PairBatch | LabelledBatch | RankingBatch, pad_id: int | None) -> np.ndarray:
    """(B, T), (R, K, T): positions whose target is padding."""
    if isinstance(batch, RankingBatch):
        return ~batch.real_mask
    if isinstance(batch, LabelledBatch):
        return ~batch.attention_mask
    padding = batch.document_ids < 0 if isinstance(batch, Batch) else np.zeros_like(batch.loss_mask)
    return padding if pad_id is None else padding | (batch.target_ids == pad_id)
