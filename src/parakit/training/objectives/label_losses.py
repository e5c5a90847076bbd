"""Losses of classification, tagging, regression and answers.

Shapes: B examples, T tokens, L labels, N counted words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from parakit.model.heads import Classifier
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import LabelledMicroBatch
from parakit.training.objectives.routing import with_router_loss


def classification(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Cross-entropy of each text's class, summed over texts (nats)."""
    loss = functional.cross_entropy(_scores(model, batch), batch.labels, reduction="sum")  # (B, L), (B,)
    return with_router_loss(loss, model, batch.attention_mask, batch.n_counted)


def multi_label(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Binary cross-entropy of each label, the mean over the labels, summed over texts (nats)."""
    scores = _scores(model, batch)  # (B, L)
    losses = functional.binary_cross_entropy_with_logits(
        scores, batch.labels.to(scores.dtype), reduction="none"
    )
    return with_router_loss(losses.mean(-1).sum(), model, batch.attention_mask, batch.n_counted)


def answer_span(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Cross-entropy of the first and of the last token of each answer among the row's tokens, the mean of both, summed
    over questions (nats; Devlin et al. 2019, section 4.2).
    """
    scores = _scores(model, batch)  # (B, T, 2)
    if batch.attention_mask is not None:
        scores = scores.masked_fill(~batch.attention_mask[..., None], -torch.inf)
    loss = functional.cross_entropy(scores, batch.labels, reduction="sum") / 2  # labels (B, 2)
    return with_router_loss(loss, model, batch.attention_mask, batch.n_counted)


def token_classification(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Cross-entropy of each word's tag, read at the word's counted token, summed over words (nats)."""
    assert batch.loss_mask is not None, "tags count at the first token of each word"
    scores, tags = _scores(model, batch)[batch.loss_mask], batch.labels[batch.loss_mask]  # (N, L), (N,)
    loss = functional.cross_entropy(scores, tags, reduction="sum")
    return with_router_loss(loss, model, batch.attention_mask, batch.n_counted)


def regression(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Squared error of each text's score, summed over texts."""
    scores = _scores(model, batch).squeeze(-1)  # (B,)
    loss = functional.mse_loss(scores, batch.labels.to(scores.dtype), reduction="sum")
    return with_router_loss(loss, model, batch.attention_mask, batch.n_counted)


def _scores(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """(B, L), or (B, T, L) of each token."""
    return at_least_float32(
        model(batch.input_ids, attention_mask=batch.attention_mask, token_type_ids=batch.token_type_ids)
    )
