"""`/v1/completions`, `/tokenize`, `/detokenize` and `/metrics`."""

from __future__ import annotations

from pathlib import Path

import httpx
import openai
import pytest

import parakit
from tests.sample_text import sentences

PROMPTS = [sentences(i, 1)[: 8 + 5 * i] for i in range(4)]


@pytest.fixture(scope="module")
def model(published_decoder: Path) -> parakit.Model:
    return parakit.load(published_decoder)


def test_several_prompts_have_the_texts_of_the_library_streamed_and_whole(
    client: openai.OpenAI, model: parakit.Model
) -> None:
    settings = {"temperature": 1.0, "seed": 3}
    expected = [
        one for prompt in PROMPTS for one in model.completions(prompt, n=2, max_new_tokens=7, **settings)
    ]
    whole = client.completions.create(model="tiny", prompt=PROMPTS, n=2, max_tokens=7, **settings)
    assert [choice.text for choice in whole.choices] == [one.text for one in expected]
    assert [choice.index for choice in whole.choices] == list(range(8))
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sum(one.n_tokens for one in expected)
    assert whole.usage.prompt_tokens == sum(one.n_prompt_tokens for one in expected[::2])
    texts = [""] * 8
    for chunk in client.completions.create(
        model="tiny", prompt=PROMPTS, n=2, max_tokens=7, stream=True, **settings
    ):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [one.text for one in expected]


def test_token_ids_and_their_text_continue_alike(
    client: openai.OpenAI, http: httpx.Client, model: parakit.Model
) -> None:
    text = PROMPTS[1]
    answer = http.post("/tokenize", json={"model": "tiny", "prompt": text, "return_token_strs": True}).json()
    assert answer["tokens"] == model.tokenizer.encode(text)
    assert answer["count"] == len(answer["tokens"])
    assert "".join(answer["token_strs"]) == text
    back = http.post("/detokenize", json={"model": "tiny", "tokens": answer["tokens"]}).json()
    assert back == {"prompt": text}
    one, other = (
        client.completions.create(model="tiny", prompt=prompt, temperature=0, echo=True)
        for prompt in (text, answer["tokens"])
    )
    assert one.choices[0].text == other.choices[0].text
    assert one.choices[0].text.startswith(text)


def test_a_conversation_has_the_tokens_of_its_template(http: httpx.Client, client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "a red bird"}]
    found = http.post("/tokenize", json={"model": "tiny", "messages": messages}).json()
    answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1)
    assert answer.usage is not None
    assert found["count"] == answer.usage.prompt_tokens


def test_log_probabilities_are_those_of_the_library(client: openai.OpenAI, model: parakit.Model) -> None:
    [expected] = model.completions(PROMPTS[0], max_new_tokens=6, temperature=0, log_probabilities=3)
    answer = client.completions.create(
        model="tiny", prompt=PROMPTS[0], max_tokens=6, temperature=0, logprobs=3
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.token_logprobs == [one.log_probability for one in expected.log_probabilities]
    assert [max(top.values()) for top in found.top_logprobs] == [
        one.alternatives[0].log_probability for one in expected.log_probabilities
    ]
    assert "".join(found.tokens) == expected.text
    assert found.text_offset[1] == len(found.tokens[0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of = 3"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo and logprobs"),
        ({"prompt": ["a"] * 100, "n": 2}, "100 prompts with n = 2"),
        ({"prompt": []}, "no tokens"),
        ({"prompt": [[]]}, "no tokens"),
        ({"prompt": [5, 400]}, "token id 400"),
        ({"prompt": "a", "temprature": 1}, "unknown key temprature: did you mean temperature"),
    ],
)
def test_what_cannot_be_is_refused_by_name(http: httpx.Client, body: dict, message: str) -> None:
    answer = http.post("/v1/completions", json={"model": "tiny", **body})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_metrics_count_requests_and_tokens(http: httpx.Client, client: openai.OpenAI) -> None:
    def value(name: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = ('parakit_requests_total{model="tiny"', 'parakit_completion_tokens_total{model="tiny"')
    before = [value(name) for name in names]
    client.completions.create(model="tiny", prompt="a", max_tokens=4, extra_body={"min_new_tokens": 4})
    assert [value(name) - old for name, old in zip(names, before, strict=True)] == [1, 4]
    assert value('parakit_cache_pages{model="tiny"}') > 0
    assert value("parakit_models_loaded") == 1
