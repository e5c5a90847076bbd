"""`/v1/chat/completions` as the official client sees it: equal to the library's own answers, streamed or whole."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

import parakit
from tests.sample_text import sentences

QUESTIONS = [sentences(i, 1)[: 10 + 3 * i] for i in range(8)]


def conversation(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def model(published_decoder: Path) -> parakit.Model:
    return parakit.load(published_decoder)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 1.0, "seed": 7, "top_p": 0.9}])
def test_answers_equal_those_of_the_library_streamed_and_whole(
    client: openai.OpenAI, model: parakit.Model, settings: dict
) -> None:
    for question in QUESTIONS:
        expected = model.completions(conversation(question), max_new_tokens=12, **settings)[0]
        whole = client.chat.completions.create(
            model="tiny", messages=conversation(question), max_tokens=12, **settings
        )
        stream = client.chat.completions.create(
            model="tiny", messages=conversation(question), max_completion_tokens=12, stream=True, **settings
        )
        chunks = [chunk.choices[0] for chunk in stream]
        assert whole.choices[0].message.content == expected.text
        assert "".join(chunk.delta.content or "" for chunk in chunks) == expected.text
        assert whole.choices[0].finish_reason == chunks[-1].finish_reason == expected.finish_reason
        assert whole.usage is not None
        assert whole.usage.completion_tokens == expected.n_tokens
        assert whole.usage.prompt_tokens == expected.n_prompt_tokens


def test_usage_comes_last_in_a_stream_and_counts_what_was_reused(client: openai.OpenAI) -> None:
    question = "one two three four five six seven"
    usages = []
    for _ in range(2):
        stream = client.chat.completions.create(
            model="tiny",
            messages=conversation(question),
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert chunks[-1].choices == []
        usages.append(chunks[-1].usage)
    first, second = usages
    assert first.prompt_tokens == second.prompt_tokens
    assert first.prompt_tokens_details.cached_tokens < second.prompt_tokens_details.cached_tokens
    assert second.prompt_tokens_details.cached_tokens == (first.prompt_tokens - 1) // 16 * 16


def test_several_answers_have_the_tokens_that_the_library_gives(
    client: openai.OpenAI, model: parakit.Model
) -> None:
    question = conversation("the small bird")
    expected = model.completions(question, n=3, seed=5, temperature=1.0, max_new_tokens=8)
    answer = client.chat.completions.create(
        model="tiny", messages=question, n=3, seed=5, temperature=1.0, max_tokens=8
    )
    assert [choice.message.content for choice in answer.choices] == [one.text for one in expected]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(one.n_tokens for one in expected)


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean tiny"):
        client.chat.completions.create(model="tinny", messages=conversation("a"))


def test_a_prompt_over_the_context_window_names_limit_and_count(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"the prompt has \d+ tokens.* holds 96") as caught:
        client.chat.completions.create(model="tiny", messages=conversation("bird " * 200))
    assert caught.value.code == "context_length_exceeded"


def test_what_was_dropped_is_in_a_header(client: openai.OpenAI) -> None:
    turns = [{"role": "user" if i % 2 == 0 else "assistant", "content": "red tree " * 3} for i in range(11)]
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=turns, max_tokens=4, extra_body={"truncation": "auto"}
    )
    assert int(raw.headers["x-parakit-dropped-messages"]) > 0
    assert int(raw.headers["x-parakit-dropped-tokens"]) > 0
    assert raw.parse().choices[0].finish_reason in ("stop", "length")
