"""Masked language modelling: what is masked, and what is left to predict from."""

from __future__ import annotations

from functools import partial

import numpy as np

from parakit.training.doctor import registry
from parakit.training.doctor.context import CheckContext

check = partial(registry.check, subject="Masked tokens", applies_to=("masked_text",))
MIN_MASK_SHARE = 0.1  # of the counted positions whose input is MASK; 0.8 is usual
MAX_COUNTED_SHARE = 0.9  # of a text


@check(
    "special-masked",
    prevents="Control tokens are masked and predicted, which is trivial and makes the loss look good.",
    noticed_by="The targets of the counted positions are searched for control tokens.",
    remedy="Choose the masked positions among ordinary tokens.",
)
def special_masked(context: CheckContext) -> str | None:
    tokenizer, batch = context.tokenizer, context.batch
    targets = batch.target_ids[batch.loss_mask]
    wrong = targets[np.isin(targets, list(tokenizer.control_ids))]
    if not len(wrong):
        return None
    token = tokenizer.token(int(wrong[0]))
    return f"{len(wrong)} of {len(targets)} masked positions are a control token, {token!r}"


@check(
    "mask-everywhere",
    prevents="With everything masked there is no context to predict from; the model learns token frequencies.",
    noticed_by=f"At most {MAX_COUNTED_SHARE:.0%} of the first batch's tokens are masked.",
    remedy="Lower noise_rate; 0.15 to 0.3 is usual.",
)
def mask_everywhere(context: CheckContext) -> str | None:
    n, masked = int((context.batch.document_ids >= 0).sum()), int(context.batch.loss_mask.sum())
    return f"{masked} of {n} tokens are masked" if masked > MAX_COUNTED_SHARE * n else None


@check(
    "mask-absent",
    prevents="The input shows the token that is to be predicted, so the model learns to copy it.",
    noticed_by=f"The input of at least {MIN_MASK_SHARE:.0%} of the counted positions is MASK.",
    remedy="Replace the inputs of the counted positions by MASK, and use the tokenizer's mask_id.",
)
def mask_absent(context: CheckContext) -> str | None:
    mask_id, batch = context.tokenizer.mask_id, context.batch
    inputs = batch.input_ids[batch.loss_mask]
    n = int((inputs == mask_id).sum())
    if mask_id is not None and n >= MIN_MASK_SHARE * len(inputs):
        return None
    return f"{n} of {len(inputs)} counted positions have MASK as input"
