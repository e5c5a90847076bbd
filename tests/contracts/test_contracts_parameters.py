"""The mistakes of parameters, and rows that change, put back one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import BatchSource
from parakit.training.optimizers import optimizer as optimizers
from tests.contracts.training_cases import TrainingCase, make_model

BOTH = pytest.mark.parametrize("task", ["chat", "pretrain"])


@pytest.fixture
def case(task: str, request: pytest.FixtureRequest) -> TrainingCase:
    return request.getfixturevalue(task)


@pytest.mark.catches("dropout-in-evaluation")
def test_dropout_left_on_in_evaluation(pretrain: TrainingCase) -> None:
    class AlwaysOn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.1, training=True)

    pretrain.model.trunk.dropout = AlwaysOn()
    assert "dropout-in-evaluation" in pretrain.failures()


@pytest.mark.catches("decay-on-norms")
def test_weight_decay_on_norms_or_embeddings(pretrain: TrainingCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: parameter.ndim == 2)
    assert pretrain.first_failure() == "decay-on-norms"
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: True)
    assert pretrain.first_failure() == "decay-on-norms"


@pytest.mark.catches("tied-embeddings")
def test_an_output_matrix_that_came_untied(pretrain: TrainingCase) -> None:
    pretrain.model.lm_head.weight = nn.Parameter(pretrain.model.lm_head.weight.detach().clone())
    assert pretrain.first_failure() == "tied-embeddings"


@pytest.mark.catches("tied-embeddings")
def test_an_output_matrix_that_is_tied_against_the_config(tokenizer: Any, pretrain: TrainingCase) -> None:
    model = make_model(tokenizer.vocab_size, tie_embeddings=False)
    model.lm_head.weight = model.trunk.token_embedding.weight
    assert pretrain.replace(model=model).first_failure() == "tied-embeddings"


@pytest.mark.catches("no-gradient")
@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "trunk.token_embedding.weight",
        "trunk.blocks.1.attention.query.weight",
        "trunk.blocks.0.feed_forward.up.weight",
        "trunk.blocks.1.attention.key_norm.weight",
        "trunk.final_norm.weight",
    ],
)
def test_a_parameter_that_is_frozen_by_mistake(name: str, case: TrainingCase) -> None:
    case.model.get_parameter(name).requires_grad_(False)
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("no-gradient")
@BOTH
def test_a_part_of_the_model_that_is_cut_off(case: TrainingCase) -> None:
    inner = case.model.trunk.blocks[0].attention.key.forward
    case.model.trunk.blocks[0].attention.key.forward = lambda x: inner(x).detach()
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("no-gradient")
def test_a_parameter_that_nothing_uses(pretrain: TrainingCase) -> None:
    pretrain.model.trunk.blocks[1].feed_forward.gate.forward = lambda x: torch.ones(*x.shape[:2], 24)
    assert pretrain.first_failure() == "no-gradient"


@BOTH
def test_a_parameter_that_should_be_frozen_and_trains(case: TrainingCase) -> None:
    meant = case.replace(frozen=lambda name: "blocks.0" in name)
    assert meant.first_failure() == "frozen-gradient"
    for name, parameter in case.model.named_parameters():
        parameter.requires_grad_("blocks.0" not in name)
    assert meant.first_failure() == "healthy"
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("rows-change")
@BOTH
def test_rows_that_depend_on_earlier_reads(case: TrainingCase) -> None:
    class Drifting(BatchSource):
        n_reads = 0

        def rows(self, start_row: int, n_rows: int) -> Batch:
            self.n_reads += 1
            return super().rows(start_row + self.n_reads, n_rows)

    source = Drifting(case.shards, 96, 0, case.source.packing)
    assert case.replace(source=source).first_failure() == "rows-change"
