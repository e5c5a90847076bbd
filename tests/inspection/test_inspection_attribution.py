"""Direct logit attribution: the shares of all parts sum to the logit, for every architecture with a vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.attribution import logit_attribution
from parakit.inspection.capture import activations
from parakit.inspection.inputs import ModelInput, run_batch
from parakit.model.config import ClassifierConfig
from parakit.model.heads import Classifier
from tests.inspection.architectures import SETTINGS, network_of, random_input


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "deberta-v2"])
def test_shares_sum_to_the_logit(name):
    network = network_of(name)
    given = random_input(network)
    with torch.no_grad():
        network.logit_soft_cap = None  # the shares are of the logit before it
        logits = run_batch(network, [given])[0]
    for position, against in ((-1, None), (2, 11)):
        found = logit_attribution(Model(network), given, 7, against=against, position=position)
        wanted = float(logits[position, 7] - (0 if against is None else logits[position, against]))
        assert found.logit == pytest.approx(wanted, abs=1e-5)
        scale = sum(float(np.abs(share).sum()) for share in found.shares.values())
        assert found.total == pytest.approx(found.logit, abs=2e-6 * max(1.0, scale))
        assert max(float(np.abs(share).max()) for share in found.shares.values()) > 1e-3


def test_shares_of_a_pre_norm_decoder_are_those_by_hand():
    network = network_of("llama").double()
    given = random_input(network)
    found = logit_attribution(Model(network), given, 7)
    parts = activations(Model(network), given, ["*"])
    norm, rows = network.trunk.final_norm, network.lm_head.weight.detach().numpy()
    last = parts["blocks.2.output"][-1]
    direction = rows[7] * norm.weight.detach().numpy() / np.sqrt((last**2).mean() + norm.eps)
    assert found.shares["embedding"] == pytest.approx(parts["embedding"][-1] @ direction)
    for layer in range(3):
        name = f"blocks.{layer}"
        assert found.shares[f"{name}.feed_forward"] == pytest.approx(
            parts[f"{name}.feed_forward"][-1] @ direction
        )
        matrix = network.trunk.blocks[layer].attention.output.weight.detach().numpy()
        heads = parts[f"{name}.attention.heads"][-1]  # (H, D)
        by_head = [matrix[:, i * 8 : (i + 1) * 8] @ heads[i] @ direction for i in range(4)]
        np.testing.assert_allclose(found.shares[f"{name}.attention.heads"], by_head, atol=1e-9)


def test_a_convolution_and_a_model_without_a_vocabulary_are_refused():
    network = network_of("deberta-v2")
    if network.trunk.convolution is not None:
        with pytest.raises(UserError, match="mixes tokens by a convolution"):
            logit_attribution(Model(network), random_input(network), 7)
    classes = ClassifierConfig(labels=("a", "b"))
    classifier = Classifier(network_of("bert").config, classes)
    with pytest.raises(UserError, match="no logits of tokens: it is a classifier of texts"):
        logit_attribution(Model(classifier), ModelInput((3, 4, 5), ("a", "b", "c")), 7)


def test_a_position_and_a_token_that_are_not_there():
    network = network_of("llama")
    model, given = Model(network), random_input(network)
    with pytest.raises(UserError, match="position 14 is not there: the text has 14 tokens"):
        logit_attribution(model, given, 7, position=14)
    with pytest.raises(UserError, match="token id 97 is outside the vocabulary of 97"):
        logit_attribution(model, given, 97)
