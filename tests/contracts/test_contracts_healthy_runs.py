"""No false alarm: healthy runs pass every check, and the checks leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from parakit.tokens.chat.template import compile_chat
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from tests.contracts.training_cases import CONVERSATIONS, DOCUMENTS, TrainingCase, chat_shards, make_case


@pytest.mark.parametrize(
    ("task", "packing"),
    [("next_token", "concat"), ("next_token", "pack"), ("chat", "pack"), ("chat", "concat")],
)
@pytest.mark.parametrize("tied", [True, False])
def test_a_healthy_run_passes_every_check(
    task: str, packing: str, tied: bool, healthy_case: Callable[..., TrainingCase]
) -> None:
    case = healthy_case(task, packing, tie_embeddings=tied)
    assert not case.source.rows(0, 8).single_document
    assert case.failures() == []


def test_rows_of_one_document_each_are_healthy(tokenizer: Tokenizer) -> None:
    case = make_case(tokenizer, "chat")
    long = [c for c in CONVERSATIONS if len(compile_chat(tokenizer, c).token_ids) > 49]
    alone = case.replace(shards=chat_shards(tokenizer, long))
    assert alone.source.rows(0, 8).single_document
    assert alone.failures() == []


@pytest.mark.parametrize(
    "shape",
    [
        {"n_heads": 4, "n_kv_heads": 4, "head_dim": 4},
        {"n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "n_layers": 1},
        {"dropout": 0.3},
        {"d_model": 20, "d_ff": 7},
        {"n_experts": 4, "n_active_experts": 1, "d_expert": 12},
    ],
)
def test_the_shape_of_the_model_does_not_matter(
    shape: dict[str, Any], healthy_case: Callable[..., TrainingCase]
) -> None:
    assert healthy_case("next_token", **shape).failures() == []
    assert healthy_case("chat", **shape).failures() == []


@pytest.mark.parametrize("seq_len", [7, 16, 96])
def test_short_and_long_rows_are_healthy_where_documents_are_cut(
    seq_len: int, healthy_case: Callable[..., TrainingCase]
) -> None:
    assert healthy_case("next_token", "concat", seq_len).failures() == []


@pytest.mark.parametrize("kind", ["char", "word", "wordpiece", "unigram"])
def test_tokenizers_that_lose_text_are_healthy(kind: str) -> None:
    texts = [document.text for document in DOCUMENTS]
    tokenizer = train_tokenizer(iter(texts), TokenizerConfig(kind=kind, vocab_size=120))
    assert make_case(tokenizer, "chat").failures() == []
    assert make_case(tokenizer, "next_token").failures() == []


def test_a_model_that_was_trained_before_is_healthy(chat: TrainingCase) -> None:
    with torch.no_grad():
        for parameter in chat.model.parameters():
            parameter.normal_(std=0.3)
    assert chat.failures() == []


@pytest.mark.parametrize("task", ["next_token", "chat"])
def test_the_checks_leave_weights_gradients_modes_and_random_state_untouched(
    task: str, healthy_case: Callable[..., TrainingCase]
) -> None:
    case = healthy_case(task, dropout=0.1)
    model = case.model.train()
    model.trunk.blocks[0].eval()
    model.lm_head.weight.grad = torch.full_like(model.lm_head.weight, 0.5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    assert case.failures() == []
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == weights[name].numpy().tobytes(), name
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradient = gradients.pop("trunk.token_embedding.weight")
    assert gradient is not None
    assert torch.equal(gradient, torch.full_like(gradient, 0.5))
    assert set(gradients.values()) == {None}


def test_a_check_that_raises_still_puts_the_weights_back(pretrain: TrainingCase) -> None:
    weights = {name: value.clone() for name, value in pretrain.model.state_dict().items()}

    def fails(model: Any, batch: Any) -> torch.Tensor:
        raise RuntimeError("broken objective")

    with pytest.raises(RuntimeError, match="broken objective"):
        pretrain.replace(objective=fails).results()
    assert all(torch.equal(value, weights[name]) for name, value in pretrain.model.state_dict().items())
