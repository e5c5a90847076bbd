"""Adapters: no false alarm, and their silent mistakes put back one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.model.adapters import LoraConfig, adapter_parameters, attach, make_lora
from parakit.stages import finetune_methods
from parakit.stages.config import FinetuneConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.loop import train_steps
from parakit.training.objectives import next_token
from parakit.training.optimizers.optimizer import Optimizer, is_matrix
from parakit.training.trainer import Trainer
from tests.contracts.training_cases import TrainingCase, make_case
from tests.training.tiny_runs import facts, finish, tiny_model, tiny_plan, tiny_source

METHODS: list[dict[str, Any]] = [
    {"method": "lora", "rank": 2},
    {"method": "lora", "rank": 2, "dora": True, "lora_dropout": 0.1},
    {"method": "lora", "rank": 2, "lora_init": "pissa"},
    {"method": "lora", "rank": 2, "lora_targets": ("token_embedding", "lm_head", "query")},
    {"method": "lora", "rank": 2, "train_turn_tokens": True},
    {"method": "lora", "rank": 2, "train_norms": True},
    {"method": "prompt", "n_prompt_tokens": 4},
    {"method": "prefix", "n_prompt_tokens": 4},
    {"method": "layers", "trained_layers": (-1,)},
]


def tuned(tokenizer: Tokenizer, settings: dict[str, Any]) -> TrainingCase:
    case = make_case(tokenizer, "chat")
    case.model.reset()
    for parameter in case.model.parameters():  # a trained base
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    tuning = finetune_methods.setup_method(case.model, FinetuneConfig(**settings), tokenizer)
    return case.replace(frozen=tuning.frozen)


@pytest.mark.parametrize(
    "settings", [*METHODS, {"method": "quantization_aware"}], ids=lambda s: "-".join(map(str, s.values()))
)
def test_healthy_tuning_raises_no_alarm(settings: dict[str, Any], tokenizer: Tokenizer) -> None:
    assert tuned(tokenizer, settings).failures() == []


@pytest.mark.catches("frozen-gradient")
def test_a_base_weight_that_trains_is_caught(tokenizer: Tokenizer) -> None:
    case = tuned(tokenizer, METHODS[0])
    case.model.trunk.blocks[0].attention.query.base.weight.requires_grad_(True)  # type: ignore[union-attr]
    assert case.first_failure() == "frozen-gradient"


@pytest.mark.catches("no-gradient")
def test_an_adapter_that_does_not_train_is_caught(tokenizer: Tokenizer) -> None:
    case = tuned(tokenizer, METHODS[0])
    next(iter(adapter_parameters(case.model).values())).requires_grad_(False)
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("no-gradient")
def test_an_adapter_that_the_forward_pass_bypasses_is_caught(tokenizer: Tokenizer) -> None:
    case = tuned(tokenizer, METHODS[0])
    wrapper = case.model.trunk.blocks[0].attention.query
    wrapper.forward = wrapper.base.forward  # type: ignore[union-attr,method-assign]
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("tied-embeddings")
def test_an_embedding_untied_by_its_adapter_is_caught(tokenizer: Tokenizer) -> None:
    case = tuned(tokenizer, METHODS[3])
    head: Any = case.model.lm_head
    head.base.weight = nn.Parameter(head.base.weight.detach().clone(), requires_grad=False)
    assert case.first_failure() == "tied-embeddings"


def test_rows_of_tokens_that_the_base_never_saw_are_trained(tokenizer: Tokenizer) -> None:
    case = make_case(tokenizer, "chat")
    tuning = finetune_methods.setup_method(
        case.model, FinetuneConfig(method="lora", rank=2), tokenizer, new_turns=True
    )
    assert tuning.adapter is not None
    assert tuning.adapter.parameters()["trunk.token_embedding.rows"].shape[0] == len(tokenizer.turn_ids)
    rows = case.model.lm_head.rows
    assert rows is case.model.trunk.token_embedding.rows  # type: ignore[union-attr]


def test_norms_train_for_a_base_without_turns_or_when_set(tokenizer: Tokenizer) -> None:
    trained = {}
    for train_norms, new_turns in ((None, True), (None, False), (True, False), (False, True)):
        case = make_case(tokenizer, "chat")
        norms = {name for name, _ in case.model.named_parameters() if "norm" in name}
        settings = FinetuneConfig(method="lora", rank=2, train_norms=train_norms)
        tuning = finetune_methods.setup_method(case.model, settings, tokenizer, new_turns=new_turns)
        assert tuning.adapter is not None
        own = {name.replace(".copy.", ".") for name in tuning.adapter.parameters() if "norm" in name}
        assert own in (norms, set())
        trained[train_norms, new_turns] = bool(own)
    assert trained == {(None, True): True, (None, False): False, (True, False): True, (False, True): False}


def test_weight_decay_reaches_no_magnitude_prompt_or_table(tokenizer: Tokenizer) -> None:
    for settings in (*METHODS[3:8], METHODS[1]):
        case = tuned(tokenizer, settings)
        for name, parameter in adapter_parameters(case.model).items():
            apart = ("magnitude", "rows", "prompt_embedding", "prefix_embedding")
            if name.endswith(apart) or any(
                part in name for part in ("token_embedding", "lm_head", "_norm.copy")
            ):
                assert not is_matrix(name, parameter), name
    assert FinetuneConfig().weight_decay == 0


@pytest.mark.parametrize("settings", METHODS, ids=lambda s: "-".join(map(str, s.values())))
def test_training_moves_the_adapter_alone(settings: dict[str, Any], tokenizer: Tokenizer) -> None:
    case = tuned(tokenizer, settings)
    model, frozen = case.model, case.frozen
    assert frozen is not None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model, case.source, next_token, case.plan.replace(max_steps=4), None)
    assert {id(p) for p in trainer.optimizer.parameters} == {
        id(p) for name, p in model.named_parameters() if not frozen(name)
    }
    finish(trainer)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is frozen(name), name


@pytest.mark.parametrize("init", ["kaiming", "pissa"])
def test_an_interrupted_run_resumes_to_the_same_bits(init: str, tmp_path: Path) -> None:
    def trainer(folder: Path | None) -> Trainer:
        model = tiny_model()
        attach(model, make_lora(model, LoraConfig(rank=2, dropout=0.2, init=init)))
        plan = tiny_plan(optimizer="adamw", max_steps=8)
        return Trainer(model, tiny_source(), next_token, plan, folder)

    whole = trainer(None)
    wanted = [facts(record) for record in finish(whole)]
    seen = {}
    for record in trainer(tmp_path).steps():
        seen[record.step] = facts(record)
        if record.step == 5:
            break
    resumed = trainer(tmp_path)
    assert resumed.first_step == 4
    seen |= {record.step: facts(record) for record in finish(resumed)}
    assert [seen[step] for step in sorted(seen)] == wanted
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, dict(whole.model.named_parameters())[name])
    n_bytes = sum(file.stat().st_size for file in tmp_path.glob("step-*8/weights.safetensors"))
    n_own = sum(p.numel() for p in adapter_parameters(resumed.model).values())
    assert n_bytes < 4 * n_own + 20_000  # the frozen base is not written again


def test_an_optimizer_over_the_whole_model_would_move_the_base(tokenizer: Tokenizer) -> None:
    """Without requires_grad=False the previous test would fail."""
    case = tuned(tokenizer, METHODS[0])
    for parameter in case.model.parameters():
        parameter.requires_grad_(True)
    before = case.model.lm_head.weight.clone()
    trainer = Trainer(case.model, case.source, next_token, case.plan, None)
    optimizer = Optimizer(case.model, case.plan)
    next(train_steps(case.model, [trainer.micro_batches(0)], next_token, optimizer))
    assert not torch.equal(case.model.lm_head.weight, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "layers"}, "--trained-layers"),
        ({"method": "layers", "trained_layers": (2,)}, "the model has 2 of them"),
        ({"method": "prefix", "n_prompt_tokens": 95}, "leaves no tokens"),
        ({"method": "lora", "lora_targets": ("q_proj",)}, "q_proj"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_errors(
    settings: dict[str, Any], message: str, tokenizer: Tokenizer, chat: Callable[..., TrainingCase]
) -> None:
    with pytest.raises(UserError) as error:
        tuned(tokenizer, settings)
    assert message in str(error.value)
