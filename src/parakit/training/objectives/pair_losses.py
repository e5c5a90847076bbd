"""Contrastive embeddings: the second text of each pair is to be found among all those of the micro-batch.

The other pairs' texts are in-batch negatives (van den Oord et al. 2018, eq. 4, "InfoNCE"), so this loss depends on how a
batch is split: more pairs in a micro-batch are a harder task, and a single one gives no loss. Equal texts are not
negatives of each other.

Shapes: B pairs, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from parakit.model.heads import Embedder
from parakit.model.precision import at_least_float32
from parakit.training.micro_batches import Objective, TextPairMicroBatch
from parakit.training.objectives.routing import with_router_loss


def contrastive(temperature: float = 0.05, symmetric: bool = True) -> Objective:
    """Cross-entropy of finding the second text of each pair by cosine / `temperature`; `symmetric` adds that of
    finding the first and halves the two (Radford et al. 2021, figure 3). Summed over pairs (nats).
    """
    assert temperature > 0

    def objective(model: Embedder, batch: TextPairMicroBatch) -> Tensor:
        first = model(batch.first_ids, attention_mask=batch.first_mask)  # (B, D)
        router = with_router_loss(first.new_zeros(()), model, batch.first_mask, batch.n_counted)
        second = model(batch.second_ids, attention_mask=batch.second_mask)
        router = with_router_loss(router, model, batch.second_mask, batch.n_counted)
        first, second = (
            functional.normalize(at_least_float32(vectors), dim=-1) for vectors in (first, second)
        )
        with torch.autocast(first.device.type, enabled=False):
            scores = first @ second.mT / temperature  # (B, B)
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(batch.same & ~own, -torch.inf)
        answers = torch.arange(len(scores), device=scores.device)
        loss = functional.cross_entropy(scores, answers, reduction="sum")
        if symmetric:
            loss = (loss + functional.cross_entropy(scores.mT, answers, reduction="sum")) / 2
        return loss + router

    return objective
