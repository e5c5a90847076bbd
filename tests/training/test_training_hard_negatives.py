"""Hard negatives of pairs: the loss against derivations of its own and sentence-transformers' in float64, and which texts
are no negatives.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from parakit.tokens.batches.batch import TextPairBatch
from parakit.training.micro_batches import TextPairMicroBatch, to_micro_batch
from parakit.training.objectives import contrastive
from tests.training.tiny_tasks import TASKS, gradients, padded, real, woken

CPU = torch.device("cpu")
Texts = list[np.ndarray]


def batch_of(first: Texts, second: Texts, negatives: list[Texts]) -> TextPairBatch:
    pairs = TextPairBatch(padded(first), real(first), padded(second), real(second), len(first))
    n, width = max(map(len, negatives)), max((len(text) for row in negatives for text in row), default=1)
    ids, mask = np.zeros((len(first), n, width), np.int64), np.zeros((len(first), n, width), bool)
    for i, row in enumerate(negatives):
        for k, text in enumerate(row):
            ids[i, k, : len(text)], mask[i, k, : len(text)] = text, True
    return replace(pairs, negative_ids=ids, negative_mask=mask)


def drawn(n: int, seed: int, n_negatives: tuple[int, ...]) -> TextPairBatch:
    generator = np.random.default_rng(seed)
    texts = [generator.integers(3, 27, generator.integers(2, 8)) for _ in range(2 * n + sum(n_negatives))]
    rest = iter(texts[2 * n :])
    return batch_of(texts[:n], texts[n : 2 * n], [[next(rest) for _ in range(k)] for k in n_negatives])


def vectors(model: torch.nn.Module, micro: TextPairMicroBatch) -> list[torch.Tensor]:
    masks = (micro.first_mask, micro.second_mask, micro.negative_mask)
    return [model(ids, attention_mask=mask) for ids, mask in zip(micro.text_ids, masks, strict=True)]


def made() -> torch.nn.Module:
    return woken(TASKS["embed"].model()).double().eval()


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_loss_is_that_of_finding_the_second_text_among_all_others_and_the_negatives(symmetric):
    model = made()
    micro = to_micro_batch(drawn(4, 0, (2, 0, 1, 2)), CPU)
    assert micro.negative_ids.shape[0] == 5
    assert micro.n_tokens == sum(
        ids.numel() for ids in (micro.first_ids, micro.second_ids, micro.negative_ids)
    )
    first, second, negatives = (v.detach().numpy() for v in vectors(model, micro))
    a, *others = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second, negatives))
    scores = np.exp(a @ np.concatenate(others).T / 0.05)
    there = -np.log(np.diag(scores) / scores.sum(1)).sum()
    back = -np.log(np.diag(scores) / scores[:, :4].sum(0)).sum()
    expected = (there + back) / 2 if symmetric else there
    assert contrastive(symmetric=symmetric)(model, micro).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.long  # sentence-transformers takes seconds to import
@pytest.mark.parametrize("symmetric", [True, False])
def test_loss_and_gradient_are_those_of_sentence_transformers(symmetric):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    directions = ("query_to_doc", "doc_to_query") if symmetric else ("query_to_doc",)
    reference = MultipleNegativesRankingLoss(
        torch.nn.Identity(), scale=20.0, directions=directions, partition_mode="per_direction"
    )
    model = made()
    micro = to_micro_batch(drawn(5, 1, (2, 2, 2, 2, 2)), CPU)
    first, second, negatives = vectors(model, micro)
    columns = [first, second, negatives[0::2], negatives[1::2]]
    expected = reference.compute_loss_from_embeddings(columns, None) * 5  # a mean of pairs there, a sum here
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    loss = contrastive(symmetric=symmetric)(model, micro)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_a_pair_alone_is_learned_by_its_negatives():
    model, text = made(), np.array([3, 4, 5])
    alone = contrastive()(model, to_micro_batch(batch_of([text], [text + 3], [[]]), CPU))
    assert alone.item() == pytest.approx(0, abs=1e-12)
    assert contrastive()(model, to_micro_batch(batch_of([text], [text + 3], [[text + 6]]), CPU)).item() > 0


def test_what_belongs_to_a_text_is_no_negative_of_it():
    a, b, c, d = (np.array([3, 4, 5]) + i for i in (0, 3, 6, 9))
    both = to_micro_batch(batch_of([a, a, d], [b, c, d + 3], [[c], [d], [b, a]]), CPU)
    assert both.no_negative.tolist() == [
        [True, False, True, True],  # c is the second text of a too, b its own, a itself
        [True, False, True, True],
        [False, True, False, False],
    ]


def test_rows_without_negatives_are_batches_as_before():
    batch = drawn(3, 2, (0, 0, 0))
    micro = to_micro_batch(batch, CPU)
    assert micro.negative_ids is None
    plain = to_micro_batch(replace(batch, negative_ids=None, negative_mask=None), CPU)
    model = made()
    assert contrastive()(model, micro).item() == contrastive()(model, plain).item()
