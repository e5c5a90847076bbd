"""Budget forcing: thinking has the length that was set, whatever the model would write."""

from __future__ import annotations

import pytest

from parakit.assistants.prompts.budget_forcing import WAIT, answer_with_budget, thinking_marks
from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import requests_of
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.generation.completion import prompt_ids
from parakit.inference.tool_calls.replies import ReadReply, read_reply
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from tests.attacks.chat_templates import with_markers

PLAIN = PromptTemplate(name="p", template="{{ q }}")
MARKED = PLAIN.replace(answer_after="bird")
ITEMS = [PromptItem("1", {"q": "the small bird"}), PromptItem("2", {"q": "the old tree"})]


@pytest.fixture(scope="module")
def model(published_wide) -> LocalChatModel:
    return LocalChatModel.load(published_wide)


@pytest.mark.parametrize("budget", [1, 5, 12])
def test_thinking_has_the_length_of_the_budget(model, budget: int):
    closing = thinking_marks(model.tokenizer, MARKED).closing
    for answer in answer_with_budget(model, MARKED, requests_of(ITEMS), budget, answer_tokens=3):
        assert budget + len(closing) < answer.n_new_tokens <= budget + len(closing) + 3
        assert "bird" in answer.reply
        assert answer.answer is not None


def test_thinking_that_ends_early_goes_on_after_wait(model, monkeypatch):
    monkeypatch.setattr(
        "parakit.assistants.prompts.budget_forcing._continue",
        lambda *args, **kwargs: [[5, 6] for _ in args[2]],
    )
    (answer,) = answer_with_budget(model, MARKED, requests_of(ITEMS[:1]), 9, answer_tokens=3)
    n_wait = len(model.tokenizer.encode(WAIT))
    turns = -(-(9 - 2) // (2 + n_wait))
    assert answer.n_new_tokens == 9 + len(thinking_marks(model.tokenizer, MARKED).closing) + 2
    assert turns >= 1
    assert WAIT.strip() in answer.reasoning


def test_what_cannot_be_forced_is_refused(model):
    with pytest.raises(UserError, match="has followups"):
        answer_with_budget(model, MARKED.replace(followups=("And?",)), requests_of(ITEMS), 4)
    (answer,) = answer_with_budget(model, MARKED, requests_of([PromptItem("1", {"q": "bird " * 9000})]), 4)
    assert answer.reply is None


def test_without_marks_and_words_thinking_has_the_plain_form_of_training(model):
    marks, tokenizer = thinking_marks(model.tokenizer, PLAIN), model.tokenizer
    question, thought = Message("user", "the bird"), "the small bird"
    solved = Conversation((question, Message("assistant", "the tree", reasoning_content=thought)))
    trained = compile_chat(tokenizer, supported_form(tokenizer, solved)).token_ids
    head = prompt_ids(tokenizer, [question])
    forced = [
        *head,
        *marks.opening,
        *tokenizer.encode(thought),
        *marks.closing,
        *tokenizer.encode("the tree"),
    ]
    assert trained[: len(forced)] == forced
    for answer in answer_with_budget(model, PLAIN, requests_of(ITEMS), 4, answer_tokens=3):
        assert len(marks.closing) + 4 < answer.n_new_tokens <= len(marks.closing) + 7
        assert "</think>" not in answer.reply


def test_reasoning_between_a_templates_marks_is_thinking_and_no_answer(model):
    tokenizer = with_markers(
        model.tokenizer,
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content }}\n</think>"
        "\n\n{% endif %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    )
    marks = thinking_marks(tokenizer, PLAIN)
    assert tokenizer.decode(marks.opening) == "<think>" or marks.opening == (
        tokenizer.special_tokens["<think>"],
    )
    ids = [
        *marks.opening,
        *tokenizer.encode("the small bird"),
        *marks.closing,
        *tokenizer.encode(" the old tree"),
    ]
    found = read_reply(tokenizer, ids)
    assert (found.reasoning, found.text) == ("the small bird", "the old tree")
    assert read_reply(tokenizer, tokenizer.encode("the old tree")) == ReadReply("the old tree")
