"""Next tokens equal transformers' probabilities; temperature and top-p are those of its samplers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.inputs import encode_input
from parakit.inspection.next_tokens import changed_probabilities, next_tokens, sampling_table

TEXT = "the small bird sees a red tree"


@pytest.fixture(scope="module")
def decoder(published_decoder: Path) -> Model:
    return Model.load(published_decoder, device="cpu")


@pytest.fixture(scope="module")
def encoder(published_encoder: Path) -> Model:
    return Model.load(published_encoder, device="cpu")


def test_a_decoder_gives_the_probabilities_of_transformers(decoder):
    from transformers import AutoModelForCausalLM

    given = encode_input(decoder, TEXT)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(decoder.path)(torch.tensor([given.token_ids])).logits[0]
    expected = logits.softmax(-1)
    found = next_tokens(decoder, TEXT, n_candidates=4)
    best = expected.topk(4)
    np.testing.assert_array_equal(found.top_ids, best.indices.numpy())
    np.testing.assert_allclose(found.top_probabilities, best.values.numpy(), rtol=1e-4)
    following = list(given.token_ids[1:])
    actual = expected[range(len(following)), following]
    np.testing.assert_allclose(found.actual_probabilities[:-1], actual.numpy(), rtol=1e-4)
    ranks = [1 + int((row > p).sum()) for row, p in zip(expected, actual, strict=False)]
    assert found.actual_ranks.tolist() == [*ranks, 0]
    assert found.actual[-1] is None
    np.testing.assert_allclose(found.entropy, -(expected * expected.log()).sum(-1).numpy(), rtol=1e-4)


def test_an_encoder_fills_each_position_while_it_is_masked(encoder):
    from transformers import AutoModelForMaskedLM

    given = encode_input(encoder, TEXT)
    reference = AutoModelForMaskedLM.from_pretrained(encoder.path).eval()
    found = next_tokens(encoder, TEXT, n_candidates=3)
    assert found.masked
    for position in (1, len(given.token_ids) - 2):
        ids = list(given.token_ids)
        ids[position] = encoder.tokenizer.mask_id
        with torch.no_grad():
            expected = reference(torch.tensor([ids])).logits[0, position].softmax(-1)
        np.testing.assert_allclose(
            found.top_probabilities[position], expected.topk(3).values.numpy(), rtol=1e-4
        )
        p = float(expected[given.token_ids[position]])
        assert found.actual_probabilities[position] == pytest.approx(p, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_settings_change_probabilities_as_transformers_samples(temperature, top_p):
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    expected = logits[None]
    if temperature != 1.0:
        expected = TemperatureLogitsWarper(temperature)(None, expected)
    if top_p < 1.0:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = changed_probabilities(logits, temperature, top_p)
    torch.testing.assert_close(found, expected[0].softmax(-1))


def test_the_table_has_a_row_for_every_setting(decoder):
    table = sampling_table(decoder, TEXT, temperatures=(0.5, 1.0), top_ps=(1.0, 0.3), n_candidates=5)
    assert table.settings == ((0.5, 1.0), (0.5, 0.3), (1.0, 1.0), (1.0, 0.3))
    assert table.position == len(encode_input(decoder, TEXT).token_ids) - 1
    whole = next_tokens(decoder, TEXT, n_candidates=5)
    np.testing.assert_allclose(table.probabilities[2], whole.top_probabilities[-1], rtol=1e-5)
    assert table.entropy[2] == pytest.approx(float(whole.entropy[-1]), rel=1e-5)
    assert table.n_kept[0] == table.n_kept[2] > table.n_kept[3] > 0
    assert table.entropy[0] < table.entropy[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position": 99}, "position 99, and the text has"),
        ({"temperatures": (0.0,)}, "temperature 0: at 0"),
        ({"top_ps": (1.5,)}, "top_p"),
    ],
)
def test_impossible_settings_are_refused(decoder, settings, message):
    with pytest.raises(UserError, match=message):
        sampling_table(decoder, TEXT, **settings)
