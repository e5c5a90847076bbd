"""Scores of heads on repeated random tokens: a planted induction head is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.inspection.head_scores import head_scores, scores_of_repetitions
from parakit.inspection.inputs import ModelInput
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel

WIDTH, VOCAB, LENGTH, N_TOKENS = 32, 40, 44, 20


def planted(seed: int) -> tuple[LanguageModel, tuple[int, int], tuple[int, int]]:
    """A decoder of two layers with random heads, but for two: one of the first layer attends to the token before and copies
    it into a part of the residual stream of its own; one of the second attends to where that part holds its own token.
    """
    torch.manual_seed(seed)
    config = DecoderConfig(
        vocab_size=VOCAB,
        d_model=3 * WIDTH,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        head_dim=WIDTH,
        d_ff=16,
        max_seq_len=LENGTH,
        positions="learned",
        query_key_norm=False,
    )
    network = LanguageModel(config)
    generator = np.random.default_rng(seed)
    previous, induction = int(generator.integers(4)), int(generator.integers(4))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.1)
        words = torch.nn.functional.normalize(torch.randn(VOCAB, WIDTH), dim=-1)
        places = torch.linalg.qr(torch.randn(LENGTH, LENGTH))[0][:, :WIDTH]
        places = torch.nn.functional.normalize(places, dim=-1)
        token = network.trunk.token_embedding.weight
        token.zero_()
        token[:, :WIDTH] = 3 * words
        table = network.trunk.positions.weight
        table.zero_()
        table[:LENGTH, WIDTH : 2 * WIDTH] = 3 * places
        first, second = (block.attention for block in network.trunk.blocks)
        here = slice(previous * WIDTH, (previous + 1) * WIDTH)
        shift = torch.linalg.lstsq(places[1:], places[:-1]).solution.T  # place i -> place i - 1
        _set(
            first,
            here,
            query=(shift, 1, 12.0),
            key=(torch.eye(WIDTH), 1, 1.0),
            value=(torch.eye(WIDTH), 0, 1.0),
        )
        first.output.weight[:, here] = 0
        first.output.weight[2 * WIDTH :, here] = torch.eye(WIDTH)
        there = slice(induction * WIDTH, (induction + 1) * WIDTH)
        _set(
            second,
            there,
            query=(torch.eye(WIDTH), 0, 12.0),
            key=(torch.eye(WIDTH), 2, 1.0),
            value=(torch.eye(WIDTH), 0, 1.0),
        )
    return network.eval(), (0, previous), (1, induction)


def _set(attention, head: slice, **parts) -> None:
    """Matrices of a head that read one third of the residual stream."""
    for name, (matrix, third, scale) in parts.items():
        weight = getattr(attention, name).weight
        weight[head] = 0
        weight[head, third * WIDTH : (third + 1) * WIDTH] = scale * matrix


def repetitions(seed: int, n_sequences: int = 4) -> list[ModelInput]:
    """Random tokens, repeated once, behind one token."""
    generator = np.random.default_rng(seed)
    rows = [generator.choice(VOCAB, N_TOKENS, replace=False).tolist() for _ in range(n_sequences)]
    return [ModelInput((0, *row, *row), ()) for row in rows]


def test_planted_heads_rank_first_in_19_of_20_seeds():
    hits = {"induction": 0, "previous": 0}
    for seed in range(20):
        network, previous, induction = planted(seed)
        found = scores_of_repetitions(network, repetitions(seed), {"": 1}, N_TOKENS)
        for kind, (layer, head) in (("previous", previous), ("induction", induction)):
            name, best, _ = found.best(kind, 1)[0]
            hits[kind] += (name, best) == (f"blocks.{layer}.attention", head)
    assert min(hits.values()) >= 19


def test_scores_are_means_of_the_maps():
    network, _, _ = planted(0)
    given = repetitions(0, 3)
    found = scores_of_repetitions(network, given, {"": 1}, N_TOKENS)
    from parakit.inference.loaded_model import Model
    from parakit.inspection.attention import attention_maps

    total = {
        "induction": np.zeros(4),
        "duplicate": np.zeros(4),
        "previous": np.zeros(4),
        "first": np.zeros(4),
    }
    for one in given:
        weights = attention_maps(Model(network), one).maps["blocks.1.attention"]
        for i in range(N_TOKENS + 1, 2 * N_TOKENS):
            total["induction"] += weights[:, i, i - N_TOKENS + 1]
            total["duplicate"] += weights[:, i, i - N_TOKENS]
            total["previous"] += weights[:, i, i - 1]
            total["first"] += weights[:, i, 0]
    for kind, sums in total.items():
        np.testing.assert_allclose(
            found.scores[kind]["blocks.1.attention"], sums / 3 / (N_TOKENS - 1), atol=1e-6
        )
    assert found.n_sequences == 3


@pytest.mark.long
def test_a_published_decoder_has_induction_heads_behind_its_heads_of_the_previous_token(imported_smollm2):
    import parakit

    found = head_scores(parakit.load(imported_smollm2, device="cpu"), n_tokens=48, n_sequences=4)
    best = found.best("induction")
    assert min(score for _, _, score in best) >= 0.5
    assert {name for name, _, _ in best} == {"blocks.17.attention", "blocks.18.attention"}
    assert found.best("previous", 1)[0][:2] == ("blocks.16.attention", 0)
