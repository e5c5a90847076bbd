"""Labels, scores and pairs of texts that a model can learn."""

from __future__ import annotations

from functools import partial

import numpy as np

from parakit.training.doctor import registry
from parakit.training.doctor.checks.compatibility import counted_labels
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.gradient_sketch import list_names
from parakit.training.doctor.row_formats import CLASSES, NAMED_LABELS

check = partial(registry.check, subject="Labels, scores and pairs of texts")
MAX_SCORE = 10.0  # root mean square: an output layer that begins near 0 takes long to reach more
MAX_EQUAL_SHARE = 0.5  # of the pairs whose two texts are one


@check(
    "label-never-seen",
    applies_to=NAMED_LABELS,
    prevents="A label without an example is never predicted, and no loss shows it.",
    noticed_by="Labels are counted over the whole split, where it is not too large.",
    remedy="Leave the label out, or add examples of it.",
)
def label_never_seen(context: CheckContext) -> str | None:
    if not context.sample_is_all:
        return None
    seen = set(np.unique(counted_labels(context.sample)).tolist())
    labels = context.model.classes.labels
    absent = [repr(name) for number, name in enumerate(labels) if number not in seen]
    return f"no example has the label {list_names(absent)}" if absent else None


@check(
    "only-one-label",
    applies_to=CLASSES,
    prevents="With a single label there is nothing to tell apart; accuracy is 100 % and means nothing.",
    noticed_by="The labels of the sampled rows are counted.",
    remedy="Add examples of another label.",
)
def only_one_label(context: CheckContext) -> str | None:
    seen = np.unique(counted_labels(context.sample))
    return f"label {seen[0]} is the only one that occurs" if len(seen) == 1 else None


@check(
    "scores-unfit",
    applies_to=("regress",),
    prevents="Scores that are not finite make the loss NaN; scores that are all equal teach a constant.",
    noticed_by="The scores of the sampled rows are read.",
    remedy="Look at the column of scores.",
)
def scores_unfit(context: CheckContext) -> str | None:
    scores = _scores(context)
    if not np.isfinite(scores).all():
        return f"{int((~np.isfinite(scores)).sum())} scores are not finite numbers"
    return f"every score is {scores[0]:g}" if (scores == scores[0]).all() else None


@check(
    "scores-unscaled",
    applies_to=("regress",),
    prevents="Scores far from 0 take most of the run to reach, because the output layer begins near 0.",
    noticed_by=f"The root mean square of the sampled scores is at most {MAX_SCORE:g}.",
    remedy="Divide the scores, so that they are around 1.",
)
def scores_unscaled(context: CheckContext) -> str | None:
    scores = _scores(context)
    if float(np.sqrt(np.mean(scores**2))) <= MAX_SCORE:
        return None
    return f"scores are {scores.mean():.4g} on average with a deviation of {scores.std():.4g}; outputs begin near 0"


def _scores(context: CheckContext) -> np.ndarray:
    return np.concatenate([batch.labels for batch in context.sample]).astype(np.float64)


@check(
    "no-negatives",
    applies_to=("text_pairs",),
    prevents="The contrastive loss of a micro-batch with one pair and no hard negatives is always 0.",
    noticed_by="The micro-batch size is read, and whether rows have negatives.",
    remedy="Raise micro_batch_size to at least 2, better to 16 or more.",
)
def no_negatives(context: CheckContext) -> str | None:
    size = context.plan.micro_batch_size
    has_hard = any(batch.negative_mask is not None and batch.negative_mask.any() for batch in context.sample)
    return None if size > 1 or has_hard else f"micro_batch_size = {size} leaves no other pair as a negative"


@check(
    "texts-empty",
    applies_to=("text_pairs",),
    blocking=True,
    prevents="A text without tokens has no embedding: its vector is NaN or that of padding.",
    noticed_by="The tokens of both texts of the sampled pairs are counted.",
    remedy="Encode the examples again with this version and this tokenizer.",
)
def texts_empty(context: CheckContext) -> str | None:
    masks = (mask for batch in context.sample for mask in (batch.first_mask, batch.second_mask))
    n = sum(int((~mask.any(axis=1)).sum()) for mask in masks)
    return f"{n} texts have no token" if n else None


@check(
    "texts-equal",
    applies_to=("text_pairs",),
    prevents="Pairs of equal texts teach nothing: the model recognizes the same tokens.",
    noticed_by=f"The two texts of the sampled pairs are compared; at most {MAX_EQUAL_SHARE:.0%} may be equal.",
    remedy="Look at the examples: one column is probably used twice.",
)
def texts_equal(context: CheckContext) -> str | None:
    same = n = 0
    for batch in context.sample:
        for row in range(len(batch.first_ids)):
            first = batch.first_ids[row][batch.first_mask[row]]
            n += 1
            same += np.array_equal(first, batch.second_ids[row][batch.second_mask[row]])
    return f"in {same} of {n} pairs both texts are the same" if same > MAX_EQUAL_SHARE * n else None
