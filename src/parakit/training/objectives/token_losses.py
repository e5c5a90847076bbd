"""Predicting tokens: the next one, the masked ones, a target after its source.

All three are the cross-entropy at the counted positions; only these pass through the output head, whose logits are the
largest tensor.

Shapes: B rows, T tokens, D width, V vocabulary, N counted tokens.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from parakit.model.heads import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import MaskedMicroBatch, MicroBatch, Objective, PairMicroBatch
from parakit.training.objectives.fused_head_loss import can_fuse_head, fused_cross_entropy
from parakit.training.objectives.routing import with_router_loss


def next_token(model: LanguageModel, batch: MicroBatch) -> Tensor:
    """Cross-entropy of the next token, summed over counted tokens (nats). The batch's attention mask decides whether a
    token attends to earlier tokens only, or to a whole prefix.
    """
    hidden = model.hidden(
        batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
    )  # (B, T, D)
    loss = _cross_entropy(model, hidden, batch.target_ids, batch.loss_mask)
    return with_router_loss(loss, model, batch.real_mask, batch.n_counted)


def masked_token(model: MaskedLanguageModel, batch: MaskedMicroBatch) -> Tensor:
    """Cross-entropy of the original tokens at the masked positions (Devlin et al. 2019), summed over them (nats)."""
    hidden = model.hidden(
        batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
    )  # (B, T, D)
    loss = _cross_entropy(model, hidden, batch.target_ids, batch.loss_mask)
    return with_router_loss(loss, model, batch.real_mask, batch.n_counted)


def sequence_to_sequence(label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy of each target token, given the source and the true tokens before it (teacher forcing).

    `label_smoothing` is the share of each target that is spread evenly over the vocabulary (Szegedy et al. 2016,
    section 7; Vaswani et al. 2017 use 0.1).
    """

    def objective(model: SequenceToSequence, batch: PairMicroBatch) -> Tensor:
        source = model.encode(
            batch.source_ids, position_ids=batch.source_position_ids, attention_mask=batch.source_mask
        )  # (B, S, D)
        hidden = model.hidden(
            batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.attention_mask,
            source=source,
            source_mask=batch.cross_mask,
        )  # (B, T, D)
        loss = _cross_entropy(model, hidden, batch.target_ids, batch.loss_mask, label_smoothing)
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted, batch.source_real_mask)

    return objective


def _cross_entropy(
    model: LanguageModel | MaskedLanguageModel | SequenceToSequence,
    hidden: Tensor,
    target_ids: Tensor,
    loss_mask: Tensor | None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The sum over counted positions, in float32 (float64 where the model is)."""
    if loss_mask is None:
        hidden, targets = hidden.flatten(0, 1), target_ids.flatten()
    else:
        hidden, targets = hidden[loss_mask], target_ids[loss_mask]  # (N, D), (N,)
    if can_fuse_head(model, hidden):
        return fused_cross_entropy(model, hidden, targets, label_smoothing)
    logits = at_least_float32(model.logits(hidden))
    return functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
