"""A trained trunk under the head of its task: what both have begins where the base stopped."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for
from parakit.common import UserError
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
)
from parakit.model.presets import config_for_size
from parakit.stages.config import FinetuneConfig
from parakit.stages.task_models import build_model, task_model, warn_own_layout, with_dropout

SHAPES = [("decoder", None), ("encoder", None), ("encoder", "bert")]
LABELS = ("bad", "good", "neither")


def base(family: str, architecture: str | None = None) -> Any:
    torch.manual_seed(1)
    return build_model(config_for_size("40k", 64, 16, family, architecture).config)


def trunks_equal(one: Any, other: Any) -> bool:
    actual, reference = one.trunk.state_dict(), other.trunk.state_dict()
    return actual.keys() == reference.keys() and all(
        torch.equal(actual[name], reference[name]) for name in actual
    )


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("decoder", LanguageModel),
        ("encoder", MaskedLanguageModel),
        ("encoder-decoder", SequenceToSequence),
    ],
)
def test_a_fresh_model_predicts_tokens_as_its_family_does(family, kind):
    model = base(family)
    assert type(model) is kind
    warn_own_layout(model.config)


@pytest.mark.parametrize(("family", "architecture"), SHAPES)
@pytest.mark.parametrize("task", ["classify", "tag", "regress"])
def test_a_classifier_keeps_the_trunk_and_is_one_that_transformers_computes(family, architecture, task):
    start = base(family, architecture)
    labels = ("score",) if task == "regress" else LABELS
    model = task_model(start, FinetuneConfig(task=task), labels)
    assert isinstance(model, Classifier)
    assert trunks_equal(model, start)
    assert model.classes.labels == labels
    assert model.classes.level == ("token" if task == "tag" else "sequence")
    assert model.classes.regression == (task == "regress")
    assert architecture_for(model.config, Head("classifier", model.classes))
    if family == "decoder":
        assert model.classes.pooling == "last"


def test_what_an_encoder_has_before_its_output_matrix_goes_to_the_classifier():
    start = base("encoder")
    model = task_model(start, FinetuneConfig(task="classify"), LABELS)
    for name, tensor in start.transform.state_dict().items():
        assert torch.equal(model.dense.state_dict()[name], tensor)


def test_the_same_head_is_trained_on_and_other_labels_begin_anew():
    first = task_model(base("encoder"), FinetuneConfig(task="classify"), LABELS)
    assert task_model(first, FinetuneConfig(task="classify"), LABELS) is first
    with torch.no_grad():
        first.label_head.weight.fill_(3.0)
    again = task_model(first, FinetuneConfig(task="classify", dropout=0.1), LABELS)
    assert torch.equal(again.label_head.weight, first.label_head.weight)
    assert again.config.dropout == 0.1
    other = task_model(first, FinetuneConfig(task="classify"), ("no", "yes", "perhaps"))
    assert trunks_equal(other, first)
    assert not (other.label_head.weight == 3.0).any()


def test_token_predictors_are_tuned_as_they_are_before_another_is_built(monkeypatch):
    with monkeypatch.context() as patched:
        decoder = base("decoder")
        patched.setattr("parakit.stages.task_models.build_model", lambda shape: pytest.fail("built"))
        assert task_model(decoder, FinetuneConfig(task="chat")) is decoder


def test_token_predictors_are_tuned_as_they_are():
    decoder, pair = base("decoder"), base("encoder-decoder")
    assert task_model(decoder, FinetuneConfig(task="chat")) is decoder
    assert task_model(pair, FinetuneConfig(task="translate")) is pair
    dropped = task_model(pair, FinetuneConfig(task="translate", dropout=0.2))
    assert trunks_equal(dropped, pair)
    assert (dropped.config.encoder.dropout, dropped.config.decoder.dropout) == (0.2, 0.2)
    assert torch.equal(dropped.lm_head.weight, pair.lm_head.weight)


def test_what_is_tied_stays_tied_under_another_dropout():
    pair = base("encoder-decoder", "2017")
    dropped = task_model(pair, FinetuneConfig(task="translate", dropout=0.2))
    assert trunks_equal(dropped, pair)
    assert dropped.lm_head.weight is dropped.trunk.token_embedding.weight


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_an_embedder_pools_as_it_is_told(family):
    start = base(family)
    model = task_model(start, FinetuneConfig(task="embed", pooling="last"))
    assert isinstance(model, Embedder)
    assert trunks_equal(model, start)
    assert model.pooling.pooling == "last"
    assert task_model(model, FinetuneConfig(task="embed", pooling="last")) is model
    assert task_model(model, FinetuneConfig(task="embed")) is model
    assert task_model(start, FinetuneConfig(task="embed")).pooling.pooling == "mean"


@pytest.mark.parametrize(
    ("family", "task"), [("encoder", "translate"), ("encoder", "chat"), ("encoder-decoder", "classify")]
)
def test_a_task_that_the_family_cannot_learn_is_refused(family, task):
    with pytest.raises(UserError, match=f"task '{task}' does not fit the family '{family}'"):
        task_model(base(family), FinetuneConfig(task=task), LABELS)


def test_dropout_is_left_as_it_is_where_nothing_is_said():
    shape = base("encoder-decoder").config
    assert with_dropout(shape, None) is shape
    assert with_dropout(shape, 0.1).replace(encoder=shape.encoder, decoder=shape.decoder) == shape


def test_a_shape_that_only_parakit_loads_is_named_before_it_is_trained(capsys):
    shape = config_for_size("20k", 64, 16, "decoder").config
    warn_own_layout(shape)
    assert capsys.readouterr().err == ""
    warn_own_layout(shape.replace(positions="sinusoidal", activation="squared_relu"))
    warning = capsys.readouterr().err
    assert "no published architecture computes this shape" in warning
    assert "positions = 'sinusoidal'" in warning
    assert "saved in Parakit's own layout, which other programs do not load" in warning


def test_an_encoder_reads_labels_from_all_its_vectors_where_its_architecture_leaves_that_open():
    assert task_model(base("encoder"), FinetuneConfig(task="classify"), LABELS).classes.pooling == "mean"
    assert (
        task_model(base("encoder", "bert"), FinetuneConfig(task="classify"), LABELS).classes.pooling == "cls"
    )
    assert task_model(base("decoder"), FinetuneConfig(task="classify"), LABELS).classes.pooling == "last"
    regressor = task_model(base("encoder"), FinetuneConfig(task="regress", pooling="cls"), ("score",))
    assert regressor.classes.pooling == "cls"


def test_a_pooling_that_the_architecture_cannot_say_is_refused():
    with pytest.raises(UserError, match="pooling 'mean': a bert reads labels at 'cls' only"):
        task_model(base("encoder", "bert"), FinetuneConfig(task="classify", pooling="mean"), LABELS)
