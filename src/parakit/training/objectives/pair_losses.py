"""Contrastive embeddings: the second text of each pair is to be found among all those of the micro-batch.

The other pairs' texts are in-batch negatives (van den Oord et al. 2018, eq. 4, "InfoNCE"), so this loss depends on how a
batch is split: more pairs in a micro-batch are a harder task, and a single one gives no loss. Equal texts are not
negatives of each other. Hard negatives, where rows have some, are candidates for the first text of every pair (Karpukhin et
al. 2020, section 3.2); as in sentence-transformers' MultipleNegativesRankingLoss.

Shapes: B pairs, N hard negatives, D width.
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
    finding the first, without the hard negatives, and halves the two (Radford et al. 2021, figure 3). Summed over pairs
    (nats).
    """
    assert temperature > 0

    def objective(model: Embedder, batch: TextPairMicroBatch) -> Tensor:
        masks = (batch.first_mask, batch.second_mask, batch.negative_mask)
        vectors, router = [], torch.zeros((), device=batch.first_ids.device)
        for ids, mask in zip(batch.text_ids, masks, strict=False):
            found = model(ids, attention_mask=mask)  # (B, D) or (N, D)
            router = with_router_loss(router, model, mask, batch.n_counted)
            vectors.append(functional.normalize(at_least_float32(found), dim=-1))
        first, candidates = vectors[0], torch.cat(vectors[1:])
        with torch.autocast(first.device.type, enabled=False):
            scores = first @ candidates.mT / temperature  # (B, B + N)
        n = len(first)
        excluded = batch.same & ~torch.eye(n, dtype=torch.bool, device=scores.device)
        if batch.no_negative is not None:
            excluded = torch.cat([excluded, batch.no_negative], dim=1)
        scores = scores.masked_fill(excluded, -torch.inf)
        answers = torch.arange(n, device=scores.device)
        loss = functional.cross_entropy(scores, answers, reduction="sum")
        if symmetric:
            loss = (loss + functional.cross_entropy(scores[:, :n].mT, answers, reduction="sum")) / 2
        return loss + router

    return objective
