"""A model of ours as a speaker: choices by the probability of their tokens, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parakit.alignment.chat_models.chat_model import open_chat_model
from parakit.alignment.chat_models.local import LocalChatModel
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.tokens.chat.template import compile_chat
from tests.alignment.tiny_chat_model import chat_model_folder, tiny_chat_model

ASKED = [
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
    found = chat_model.score_choices(ASKED, CHOICES)
    assert found[2] is None  # over the context window
    for asked, shares in zip(ASKED[:2], found[:2], strict=True):
        prompt = compile_chat(chat_model.tokenizer, asked, add_generation_prompt=True).token_ids
        scores = []
        for choice in CHOICES:
            ids, total = list(prompt), 0.0
            for token_id in chat_model.tokenizer.encode(
                choice
            ):  # one token after the other, each from a pass of its own
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
    said = chat_model.generate(ASKED, max_new_tokens=6)
    assert said[2] is None
    assert said[:2] == [
        generate(chat_model.model, chat_model.tokenizer, a, greedy).text.strip() for a in ASKED[:2]
    ]


def test_draws_depend_on_their_own_seed_alone(chat_model: LocalChatModel) -> None:
    together = chat_model.generate(ASKED[:2], max_new_tokens=8, temperature=1.0, seeds=[1, 2])
    alone = chat_model.generate(ASKED[1:2], max_new_tokens=8, temperature=1.0, seeds=[2])
    assert together[1:] == alone
    assert chat_model.generate(ASKED[1:2], max_new_tokens=8, temperature=1.0, seeds=[3]) != alone


def test_a_folder_speaks_and_anything_else_is_refused(tmp_path: Path) -> None:
    folder = chat_model_folder(tmp_path / "model")
    assert open_chat_model(str(folder)).name == str(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError):
        open_chat_model(str(folder))
    with pytest.raises(UserError):
        open_chat_model(str(tmp_path / "nothing"))
