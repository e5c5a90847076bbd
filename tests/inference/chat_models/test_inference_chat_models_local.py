"""A local model as a chat model: choices by the probability of their tokens, and conversations that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.tokens.chat.template import compile_chat
from tests.alignment.tiny_chat_model import chat_model_folder, tiny_chat_model

CONVERSATIONS = [
    (Message("user", "Should that answer have declined?"),),
    (Message("system", "Be kind."), Message("user", "No?")),
    (Message("user", "a" * 400),),
]
CHOICES = ("Yes", "No, it can't")


@pytest.fixture(scope="module")
def chat_model() -> LocalChatModel:
    model, tokenizer = tiny_chat_model()
    return LocalChatModel(model.double(), tokenizer)


def test_choices_have_the_probability_of_their_tokens(chat_model: LocalChatModel) -> None:
    found = chat_model.score_choices(CONVERSATIONS, CHOICES)
    assert found[2] is None  # over the context window
    for messages, shares in zip(CONVERSATIONS[:2], found[:2], strict=True):
        prompt = compile_chat(chat_model.tokenizer, messages, add_generation_prompt=True).token_ids
        scores = []
        for choice in CHOICES:
            ids, total = list(prompt), 0.0
            # one token after the other, each from its own forward pass
            for token_id in chat_model.tokenizer.encode(choice):
                with torch.no_grad():
                    logits = chat_model.model(torch.tensor([ids]))[0, -1].double()
                total += float(logits.log_softmax(-1)[token_id])
                ids.append(token_id)
            scores.append(total)
        expected = torch.tensor(scores).softmax(-1).tolist()
        assert shares == pytest.approx(expected, abs=1e-6)
        assert sum(shares) == pytest.approx(1)


def test_answers_are_those_of_the_one_engine(chat_model: LocalChatModel) -> None:
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=6)
    answers = chat_model.generate(CONVERSATIONS, max_new_tokens=6)
    assert answers[2] is None
    assert answers[:2] == [
        generate(chat_model.model, chat_model.tokenizer, a, greedy).text.strip() for a in CONVERSATIONS[:2]
    ]


def test_draws_depend_on_their_own_seed_alone(chat_model: LocalChatModel) -> None:
    together = chat_model.generate(CONVERSATIONS[:2], max_new_tokens=8, temperature=1.0, seeds=[1, 2])
    alone = chat_model.generate(CONVERSATIONS[1:2], max_new_tokens=8, temperature=1.0, seeds=[2])
    assert together[1:] == alone
    assert chat_model.generate(CONVERSATIONS[1:2], max_new_tokens=8, temperature=1.0, seeds=[3]) != alone


def test_a_folder_speaks_and_anything_else_is_refused(tmp_path: Path) -> None:
    folder = chat_model_folder(tmp_path / "model")
    assert open_chat_model(str(folder)).name == str(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError):
        open_chat_model(str(folder))
    with pytest.raises(UserError):
        open_chat_model(str(tmp_path / "nothing"))
