"""Prompts on a model: turns, tokens, choices and their calibration."""

from __future__ import annotations

import numpy as np
import pytest

from parakit.assistants.prompts.calibration import calibrated, choose_answers, content_free
from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import requests_of, run_prompt
from parakit.common.errors import UserError
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.generation.text import prompt_ids
from tests.alignment.chat_server import chat_server

ITEMS = [PromptItem("1", {"q": "the small bird"}), PromptItem("2", {"q": "the old tree"})]


class Scripted:
    """A chat model that answers with the number of turns so far, or with given probabilities."""

    name = "scripted"

    def __init__(self, scores: dict[str, tuple[float, ...]] | None = None) -> None:
        self.scores, self.seeds = scores or {}, []

    def generate(self, conversations, *, max_new_tokens, temperature=0.0, seeds=None, on_progress=None):
        self.seeds += list(seeds)
        return [None if "old" in one[0].content else f"turn {len(one)}" for one in conversations]

    def score_choices(self, conversations, choices):
        return [self.scores.get(one[-1].content) for one in conversations]


def test_followups_are_sent_after_each_reply():
    prompt = PromptTemplate(name="p", template="{{ q }}", followups=("Check {{ q }}.", "Again."))
    model = Scripted()
    first, second = run_prompt(model, prompt, requests_of(ITEMS))
    assert first.answer == "turn 5"
    assert (second.answer, second.reply) == (None, None)  # too long: no further turn is sent
    assert len(set(model.seeds)) == len(model.seeds) == 4


def test_the_tokens_of_a_local_model_are_counted(published_wide):
    model = LocalChatModel.load(published_wide)
    prompt = PromptTemplate.parse({"name": "p", "template": "{{ q }}", "settings": {"max_new_tokens": 3}})
    answers = run_prompt(model, prompt, requests_of(ITEMS))
    for item, answer in zip(ITEMS, answers, strict=True):
        assert answer.n_prompt_tokens == len(prompt_ids(model.tokenizer, prompt.messages(item.fields)))
        assert 1 <= answer.n_new_tokens <= 3
        assert answer.is_cut == (answer.n_new_tokens == 3) or answer.n_new_tokens == 3
    texts = model.generate([prompt.messages(item.fields) for item in ITEMS], max_new_tokens=3)
    assert [answer.reply for answer in answers] == texts
    doubled = prompt.replace(followups=("Again {{ q }}.",))
    again = run_prompt(model, doubled, requests_of(ITEMS))
    assert all(two.n_prompt_tokens > 2 * one.n_prompt_tokens for one, two in zip(answers, again, strict=True))


def test_an_endpoint_reports_its_tokens_and_its_reasoning_apart():
    def answer(path, body, headers):
        message = {"role": "assistant", "content": " 12 ", "reasoning_content": "7 + 5"}
        usage = (
            {"prompt_tokens": 9, "completion_tokens": 4} if "bird" in body["messages"][-1]["content"] else {}
        )
        return 200, {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage}

    prompt = PromptTemplate(name="p", template="{{ q }}")
    with chat_server(answer) as url:
        first, second = run_prompt(open_chat_model(url, model="m"), prompt, requests_of(ITEMS))
    assert (first.answer, first.reasoning, first.n_prompt_tokens, first.n_new_tokens) == ("12", "7 + 5", 9, 4)
    assert first.is_cut
    assert second.n_prompt_tokens == len("the old tree") // 3 + 8  # estimated where none are reported


def test_a_conversation_over_the_window_has_no_reply(published_decoder):
    model = LocalChatModel.load(published_decoder)
    prompt = PromptTemplate(name="p", template="{{ q }}")
    (answer,) = run_prompt(model, prompt, requests_of([PromptItem("1", {"q": "bird " * 3000})]))
    assert answer.reply is None
    assert answer.n_prompt_tokens > model.model.config.max_seq_len


def test_calibration_divides_by_the_choices_without_an_input():
    # Zhao et al. 2021: W = diag(p_cf)^-1, q = softmax-free normalisation of W p
    p, prior = np.array([0.7, 0.3]), np.array([0.8, 0.2])
    weighted = np.diag(1 / prior) @ p
    np.testing.assert_allclose(calibrated(p, prior), weighted / weighted.sum(), rtol=1e-12)


def test_a_biased_model_is_corrected_by_choice():
    prompt = PromptTemplate(name="p", template="{{ q }}", answer_choices=("yes", "no"))
    scores = {"N/A": (0.9, 0.1), "[MASK]": (0.8, 0.2), "": (0.7, 0.3)}
    scores |= {"the small bird": (0.7, 0.3), "the old tree": (0.95, 0.05)}
    requests = requests_of(ITEMS)
    model = Scripted(scores)
    plain = choose_answers(model, prompt, requests)
    assert [one.answer for one in plain] == ["yes", "yes"]
    corrected = choose_answers(
        model, prompt, requests, content_free(model, prompt, requests), n_extra_tokens=5
    )
    assert [one.answer for one in corrected] == ["no", "yes"]
    assert corrected[0].n_prompt_tokens == plain[0].n_prompt_tokens + 5
    several = requests_of(ITEMS, [({"q": "a", "answer": "yes"},), ({"q": "b", "answer": "no"},)])
    with pytest.raises(UserError, match="different examples"):
        content_free(model, prompt, several)
