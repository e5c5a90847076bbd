"""Who sees whom: the future never changes the past, packed documents are read as if alone."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.model import DecoderConfig, LanguageModel

CONFIG = DecoderConfig(
    vocab_size=37, d_model=12, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=6, d_ff=16, max_seq_len=40
)


def model_with_weights() -> LanguageModel:
    torch.manual_seed(3)
    model: Any = LanguageModel(CONFIG).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 * parameter.shape[1] ** -0.5)
    return model


MODEL = model_with_weights()
ids = st.lists(st.integers(0, CONFIG.vocab_size - 1), min_size=2, max_size=24)


@torch.no_grad()
def logits(token_ids: list[int], **arguments: Any) -> torch.Tensor:
    return MODEL(torch.tensor([token_ids]), **arguments)[0]


@given(ids, st.data())
@settings(max_examples=60)
def test_a_future_token_never_changes_a_past_logit(token_ids: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(token_ids) - 1))
    other = [*token_ids[:place], *data.draw(st.lists(st.integers(0, 36), min_size=1, max_size=8))]
    before, after = logits(token_ids), logits(other)
    assert (before[:place] - after[:place]).abs().max() < 1e-12


@given(st.lists(ids.map(lambda one: one[:9]), min_size=2, max_size=4))
@settings(max_examples=60)
def test_packed_documents_give_the_logits_that_each_gives_alone(documents: list[list[int]]) -> None:
    numbers = torch.tensor([n for n, one in enumerate(documents) for _ in one])
    positions = torch.cat([torch.arange(len(one)) for one in documents])
    mask = (numbers[:, None] == numbers[None, :]).tril()[None, None]
    packed = logits(
        [token for one in documents for token in one], position_ids=positions[None], attention_mask=mask
    )
    alone = torch.cat([logits(one) for one in documents])
    assert (packed - alone).abs().max() < 1e-6  # the tables of positions are float32


@given(ids, st.integers(1, 10))
@settings(max_examples=30)
def test_padding_behind_a_row_changes_nothing(token_ids: list[int], n_padding: int) -> None:
    padded = logits([*token_ids, *[0] * n_padding])[: len(token_ids)]
    assert (padded - logits(token_ids)).abs().max() < 1e-12


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    batch = torch.randint(0, 37, (3, 11))
    with torch.no_grad():
        together = MODEL(batch)
    for row in range(3):
        assert (together[row] - logits(batch[row].tolist())).abs().max() < 1e-12


def test_without_positions_the_order_would_not_matter_and_with_them_it_does() -> None:
    token_ids = [5, 9, 11, 2]
    turned = [9, 5, 11, 2]
    same = torch.zeros(1, 4, dtype=torch.long)
    everything = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    flat = [logits(t, position_ids=same, attention_mask=everything)[-1] for t in (token_ids, turned)]
    assert (flat[0] - flat[1]).abs().max() < 1e-12
    placed = [logits(t, attention_mask=everything)[-1] for t in (token_ids, turned)]
    assert (placed[0] - placed[1]).abs().max() > 1e-3
