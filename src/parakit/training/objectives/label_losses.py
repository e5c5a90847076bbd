"""Losses of classification, tagging and regression.

Shapes: B examples, T tokens, L labels, N counted words.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from parakit.model.heads import Classifier
from parakit.training.micro_batches import LabelledMicroBatch
from parakit.training.objectives.routing import with_router_loss
from parakit.training.precision import at_least_float32


def classification(model: Classifier, batch: LabelledMicroBatch) -> Tensor:
    """Cross-entropy of each text's class, summed over texts (nats)."""
    loss = functional.cross_entropy(_scores(model, batch), batch.labels, reduction="sum")  # (B, L), (B,)
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
