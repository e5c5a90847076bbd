"""The client of a chat endpoint, against a real server on this machine: answers, keys, retries and errors."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.openai import OpenAIChatConfig, OpenAIChatModel
from tests.alignment.chat_server import Answer, chat_server, completion

CONVERSATIONS = [(Message("system", "Be kind."), Message("user", f"question {i}")) for i in range(6)]


def chat_model(url: str, **settings: Any) -> OpenAIChatModel:
    values = {"model": "tiny", "retry_pause": 0.0, "max_attempts": 3} | settings
    return OpenAIChatModel(OpenAIChatConfig(url=url, **values))


def test_answers_come_in_the_order_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAKIT_API_KEY", "secret")
    seen: list[tuple[str, dict[str, Any], str | None]] = []

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        seen.append((path, body, headers.get("Authorization")))
        return completion(f" about {body['messages'][-1]['content']}\n")

    with chat_server(answer) as url:
        answers = chat_model(url).generate(CONVERSATIONS, max_new_tokens=9, seeds=list(range(6)))
    assert answers == [f"about question {i}" for i in range(6)]
    path, body, key = seen[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 9, 0.0)
    assert sorted(body["seed"] for _, body, _ in seen) == list(range(6))


def test_without_a_key_none_is_sent_and_without_a_name_the_first_model_is_asked() -> None:
    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        assert "Authorization" not in headers
        return (200, {"data": [{"id": "first"}]}) if path == "/v1/models" else completion(body["model"])

    with chat_server(answer) as url:
        found = open_chat_model(f"{url}/chat/completions")
        assert found.generate(CONVERSATIONS[:1], max_new_tokens=1) == ["first"]
        assert found.name == f"first at {url}"


def test_what_may_pass_is_tried_again() -> None:
    answers = iter([(503, "busy"), (429, "slow down"), completion("at last")])
    with chat_server(lambda *_: next(answers), {"Retry-After": "0"}) as url:
        assert chat_model(url).generate(CONVERSATIONS[:1], max_new_tokens=1) == ["at last"]


@pytest.mark.parametrize(
    ("answer", "message", "hint"),
    [
        ((401, {"error": "no key"}), "refused the request (HTTP 401)", "PARAKIT_API_KEY"),
        ((429, "slow down"), "rate limit reached, 3 attempts: slow down", "kept"),
        ((500, "broken"), "HTTP 500 after 3 attempts: broken", "check the address"),
        ((404, "no model"), "HTTP 404 after 1 attempts: no model", "the model's name"),
        ((200, "<html>"), "not JSON: <html>", "OpenAI-compatible"),
        ((200, {"choices": []}), "not a chat completion", "OpenAI-compatible"),
        ((200, [1]), "not a chat completion", "OpenAI-compatible"),
    ],
)
def test_errors_say_what_the_other_side_said(answer: Answer, message: str, hint: str) -> None:
    with chat_server(lambda *_: answer) as url, pytest.raises(UserError) as caught:
        chat_model(url).generate(CONVERSATIONS[:1], max_new_tokens=1)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_address_where_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"cannot be reached after 2 attempts: .*[Rr]efused"):
        chat_model(f"http://127.0.0.1:{port}/v1", max_attempts=2).generate(CONVERSATIONS, max_new_tokens=1)


def test_one_that_never_answers_is_given_up() -> None:
    released = threading.Event()

    def answer(*_: Any) -> Answer:
        released.wait(5)
        return completion("late")

    with chat_server(answer) as url:
        with pytest.raises(UserError, match=r"cannot be reached after 1 attempts: .*timed out"):
            chat_model(url, timeout=0.05, max_attempts=1).generate(CONVERSATIONS[:1], max_new_tokens=1)
        released.set()


def test_a_list_without_models() -> None:
    with chat_server(lambda *_: (200, {"data": []})) as url, pytest.raises(UserError, match="lists no model"):
        chat_model(url, model=None).generate(CONVERSATIONS[:1], max_new_tokens=1)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("Yes, it should.", (1.0, 0.0)),
        (' "no"', (0.0, 1.0)),
        ("**No**", (0.0, 1.0)),
        ("Yesterday", None),
        ("Perhaps", None),
        (None, None),
        ("", None),
    ],
)
def test_choices_are_read_from_the_beginning_of_an_answer(answers: str | None, expected: Any) -> None:
    with chat_server(lambda *_: completion(answers)) as url:
        assert chat_model(url).score_choices(CONVERSATIONS[:1], ("Yes", "No")) == [expected]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A", (1.0, 0.0)),
        ("B.", (0.0, 1.0)),
        ("**B**: it is shorter", (0.0, 1.0)),
        ("A is better", (1.0, 0.0)),
        ("B\nbecause", (0.0, 1.0)),
        ("A good question", None),
        ("Answer A", None),
    ],
)
def test_a_letter_is_a_choice_only_where_no_sentence_begins_with_it(answer: str, expected: Any) -> None:
    with chat_server(lambda *_: completion(answer)) as url:
        assert chat_model(url).score_choices(CONVERSATIONS[:1], ("A", "B")) == [expected]


def test_after_a_failure_no_further_requests_are_sent() -> None:
    seen: list[str] = []

    def answer(path: str, body: dict[str, Any], headers: dict[str, str]) -> Answer:
        seen.append(path)
        return 404, "gone"

    with chat_server(answer) as url, pytest.raises(UserError, match="gone"):
        chat_model(url, max_concurrent=2).generate(CONVERSATIONS * 10, max_new_tokens=1)
    assert len(seen) < 30
