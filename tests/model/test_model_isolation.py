"""Who sees whom: the future never changes the past, packed documents are read as if alone, padding changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from parakit.model import LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.layers.masks import cross_document_mask, document_mask
from tests.model.formulas import config_of, encoder_of, joined_of, random_weights
from tests.short_suite import examples

EVERYWHERE: dict[str, dict[str, Any]] = {
    "rotary": {},
    "learned": {"positions": "learned"},
    "sinusoidal, post-norm": {"positions": "sinusoidal", "post_norm": True},
    "relative": {"positions": "relative"},
    "relative, windows": {"positions": "relative", "sliding_window": 3, "local_layers": (1,)},
    "windows": {"sliding_window": 3},
    "local and global": {"sliding_window": 4, "local_layers": (0,), "local_rope_theta": 50.0},
    "soft caps": {"attention_soft_cap": 1.0, "n_kv_heads": 1},
    "experts": {"n_experts": 4, "n_shared_experts": 1},
    "linear": {"attention": "linear", "n_kv_heads": 1},
}
ENCODERS = EVERYWHERE | {"low rank": {"attention": "low_rank", "low_rank_len": 3}}
LIMIT = 1e-5  # the tables of positions are float32

_models: dict[tuple[str, str], Any] = {}


def decoder(name: str) -> LanguageModel:
    return _model("decoder", name, lambda: LanguageModel(config_of(**EVERYWHERE[name])))


def encoder(name: str) -> MaskedLanguageModel:
    return _model("encoder", name, lambda: MaskedLanguageModel(encoder_of(**ENCODERS[name])))


def joined(name: str) -> SequenceToSequence:
    return _model("encoder-decoder", name, lambda: SequenceToSequence(joined_of(**EVERYWHERE[name])))


def _model(family: str, name: str, build: Any) -> Any:
    key = family, name
    if key not in _models:
        _models[key] = random_weights(build()).double()
    return _models[key]


def row(token_ids: list[int]) -> Tensor:
    return torch.tensor([token_ids])


token_lists = st.lists(st.integers(0, 60), min_size=2, max_size=24)
short_lists = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=9), min_size=2, max_size=3)
decoders = st.sampled_from(sorted(EVERYWHERE))


@given(decoders, token_lists, st.data())
@examples(100)
@torch.no_grad()
def test_a_future_token_never_changes_a_past_logit(
    name: str, token_ids: list[int], data: st.DataObject
) -> None:
    model, place = decoder(name), data.draw(st.integers(1, len(token_ids) - 1))
    other = [*token_ids[:place], *data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=8))]
    before, after = model(row(token_ids))[0], model(row(other))[0]
    assert (before[:place] - after[:place]).abs().max() < 1e-10


@given(decoders, token_lists, token_lists, st.data())
@examples(60)
@torch.no_grad()
def test_a_future_target_token_never_changes_a_past_logit(
    name: str, source_ids: list[int], token_ids: list[int], data: st.DataObject
) -> None:
    model, place = joined(name), data.draw(st.integers(1, len(token_ids) - 1))
    other = [*token_ids[:place], *data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=8))]
    before, after = (model(row(source_ids), row(ids))[0] for ids in (token_ids, other))
    assert (before[:place] - after[:place]).abs().max() < 1e-10


@pytest.mark.parametrize("name", sorted(ENCODERS))
@torch.no_grad()
def test_in_an_encoder_every_token_sees_all_others(name: str) -> None:
    ids = [5, 9, 11, 2, 7]
    far = ENCODERS[name].get("sliding_window") and "local_layers" not in ENCODERS[name]
    straight, changed = encoder(name)(row(ids))[0], encoder(name)(row([*ids[:-1], 8]))[0]
    differs = (straight - changed).abs().amax(-1) > 1e-6
    assert differs[2:].all()
    assert differs[:2].all() or far


def packed_as(documents: list[list[int]], causal: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ids, position ids, mask and document numbers of one packed row."""
    numbers = torch.tensor([[n for n, one in enumerate(documents) for _ in one]])
    positions = torch.cat([torch.arange(len(one)) for one in documents])[None]
    ids = row([token for one in documents for token in one])
    return ids, positions, document_mask(numbers, causal), numbers


@given(decoders, short_lists)
@examples(60)
@torch.no_grad()
def test_packed_documents_give_the_logits_that_each_gives_alone(
    name: str, documents: list[list[int]]
) -> None:
    for causal, model in ((True, decoder(name)), (False, encoder(name))):
        ids, positions, mask, _ = packed_as(documents, causal)
        packed = model(ids, position_ids=positions, attention_mask=mask)[0]
        alone = torch.cat([model(row(one))[0] for one in documents])
        assert (packed - alone).abs().max() < LIMIT * alone.abs().max()


@given(decoders, short_lists, st.data())
@examples(40)
@torch.no_grad()
def test_packed_pairs_give_the_logits_that_each_gives_alone(
    name: str, sources: list[list[int]], data: st.DataObject
) -> None:
    model = joined(name)
    targets = [data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=9)) for _ in sources]
    source_ids, source_positions, source_mask, source_numbers = packed_as(sources, causal=False)
    ids, positions, mask, numbers = packed_as(targets, causal=True)
    source = model.encode(source_ids, position_ids=source_positions, attention_mask=source_mask)
    crossed = cross_document_mask(numbers, source_numbers)
    hidden = model.hidden(
        ids, position_ids=positions, attention_mask=mask, source=source, source_mask=crossed
    )
    alone = [model(row(one), row(other))[0] for one, other in zip(sources, targets, strict=True)]
    assert (model.logits(hidden)[0] - torch.cat(alone)).abs().max() < LIMIT * torch.cat(alone).abs().max()


def padded(token_ids: list[int], n_padding: int, left: bool) -> tuple[Tensor, Tensor, Tensor, slice]:
    """ids, mask, position ids and where the real tokens are."""
    padding, real = [0] * n_padding, len(token_ids)
    ids = row([*padding, *token_ids] if left else [*token_ids, *padding])
    places = slice(n_padding, None) if left else slice(0, real)
    mask = torch.zeros(1, real + n_padding, dtype=torch.bool)
    mask[0, places] = True
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0), places


@given(st.sampled_from(sorted(ENCODERS)), token_lists, st.integers(1, 8), st.booleans())
@examples(120)
@torch.no_grad()
def test_padding_never_changes_real_tokens(
    name: str, token_ids: list[int], n_padding: int, left: bool
) -> None:
    ids, mask, positions, places = padded(token_ids, n_padding, left)
    for model in [encoder(name), *([decoder(name)] if name in EVERYWHERE else [])]:
        wanted = model(row(token_ids))[0]
        got = model(ids, attention_mask=mask, position_ids=positions)[0, places]
        assert (got - wanted).abs().max() < LIMIT * wanted.abs().max()


@given(decoders, token_lists, token_lists, st.integers(1, 8), st.booleans())
@examples(40)
@torch.no_grad()
def test_padding_of_a_source_never_changes_a_targets_logits(
    name: str, source_ids: list[int], token_ids: list[int], n_padding: int, left: bool
) -> None:
    model, (ids, mask, positions, _) = joined(name), padded(source_ids, n_padding, left)
    wanted = model(row(source_ids), row(token_ids))[0]
    source = model.encode(ids, attention_mask=mask, position_ids=positions)
    got = model.logits(model.hidden(row(token_ids), source=source, source_mask=mask))[0]
    assert (got - wanted).abs().max() < LIMIT * wanted.abs().max()


@pytest.mark.parametrize("name", sorted(EVERYWHERE))
@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other(name: str) -> None:
    batch = torch.randint(0, 61, (3, 11))
    for model in (decoder(name), encoder(name)):
        together = model(batch)
        for number in range(3):
            assert (together[number] - model(batch[number : number + 1])[0]).abs().max() < 1e-10
    together = joined(name)(batch, batch)
    assert (together[1] - joined(name)(batch[1:2], batch[1:2])[0]).abs().max() < 1e-10
