"""Objectives: the losses of training tasks.

An objective takes the model and one micro-batch and returns the *sum* of the losses over counted tokens or examples, in
float32. The loop divides by their number in the whole optimizer batch, so that gradients do not depend on how the batch is
split.
"""

from parakit.training.objectives.distribution_losses import distribution_matching
from parakit.training.objectives.label_losses import (
    answer_span,
    classification,
    multi_label,
    regression,
    token_classification,
)
from parakit.training.objectives.pair_losses import contrastive
from parakit.training.objectives.token_losses import masked_token, next_token, sequence_to_sequence

__all__ = [
    "answer_span",
    "classification",
    "contrastive",
    "distribution_matching",
    "masked_token",
    "multi_label",
    "next_token",
    "regression",
    "sequence_to_sequence",
    "token_classification",
]
