"""Reasoning over HTTP: apart from the answer in every form, whole and streamed, counted, and given back to the template.

The reference is `parakit.load`: its token ids, cut at the mark that ends the reasoning.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import parakit
from tests.serving.conftest import RunningServer, start_server
from tests.tiny_published import write_decoder

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content }}"
    "\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
QUESTION: list[Any] = [{"role": "user", "content": "the small bird"}]
N_TOKENS = 60


def plain(text: str | None) -> str:
    """The ASCII of a text: bytes that are no whole character, which a random model writes, differ by how they are cut."""
    return "".join(one for one in (text or "").strip() if " " <= one <= "~").strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose prompt opens its reasoning."""
    path = tmp_path_factory.mktemp("reasoning") / "model"
    return write_decoder(path, 1024, TEMPLATE, ["<think>", "</think>"])


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    running = start_server([f"thinker={folder}"])
    yield running
    running.stop()


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    """With which the mark comes after some tokens."""
    closing = parakit.load(folder).tokenizer.special_tokens["</think>"]
    return {"temperature": 1.0, "seed": 7, "max_tokens": N_TOKENS, "logit_bias": {str(closing): 3.5}}


@pytest.fixture(scope="module")
def reference(folder: Path, settings: dict[str, Any]) -> tuple[str, str, int]:
    """The reasoning, the answer, and the tokens of the reasoning with its mark."""
    model = parakit.load(folder)
    [one] = model.completions(
        QUESTION,
        max_new_tokens=N_TOKENS,
        temperature=1.0,
        seed=7,
        logit_bias={int(i): bias for i, bias in settings["logit_bias"].items()},
    )
    ids, closing = list(one.token_ids), model.tokenizer.special_tokens["</think>"]
    n = ids.index(closing)
    assert 3 < n < N_TOKENS - 3
    decode = model.tokenizer.decode
    return plain(decode(ids[:n])), plain(decode(ids[n + 1 :])), n + 1


def test_chat_has_the_reasoning_apart(
    server: RunningServer, settings: dict[str, Any], reference: tuple[str, str, int]
) -> None:
    with server.client as client:
        wanted = {"model": "thinker", "messages": QUESTION, "logprobs": True, **settings}
        whole = client.chat.completions.create(**wanted)
        message = whole.choices[0].message
        assert (plain(message.reasoning_content), plain(message.content)) == reference[:2]  # type: ignore[attr-defined]
        assert whole.usage is not None
        assert whole.usage.completion_tokens_details is not None
        assert whole.usage.completion_tokens_details.reasoning_tokens == reference[2]
        assert whole.choices[0].logprobs is not None
        assert plain("".join(one.token for one in whole.choices[0].logprobs.content or ())) == reference[1]
        reasoning = answer = ""
        for chunk in client.chat.completions.create(
            **wanted, stream=True, stream_options={"include_usage": True}
        ):
            if chunk.choices:
                delta = chunk.choices[0].delta
                reasoning += getattr(delta, "reasoning_content", None) or ""
                answer += delta.content or ""
            elif chunk.usage is not None and chunk.usage.completion_tokens_details is not None:
                assert chunk.usage.completion_tokens_details.reasoning_tokens == reference[2]
        assert (reasoning, answer) == (message.reasoning_content, message.content)  # type: ignore[attr-defined]


def test_the_history_keeps_its_reasoning(server: RunningServer, reference: tuple[str, str, int]) -> None:
    counts = []
    for more in ({}, {"reasoning_content": reference[0]}):
        turn = {"role": "assistant", "content": reference[1], **more}
        with server.client as client:
            answer = client.chat.completions.create(
                model="thinker", messages=[*QUESTION, turn, *QUESTION], max_tokens=1
            )
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
    assert counts[1] > counts[0]


def test_responses_have_an_item_of_reasoning(server: RunningServer) -> None:
    body: dict[str, Any] = {
        "model": "thinker",
        "input": "the small bird",
        "max_output_tokens": 8,
        "extra_body": {"seed": 7},
    }
    with server.client as client:
        whole = client.responses.create(**body)
        [item] = whole.output
        assert item.type == "reasoning"
        assert whole.usage.output_tokens_details.reasoning_tokens == 8
        kinds, text = [], ""
        stream = client.responses.create(**body, stream=True)
        for event in stream:
            kinds.append(event.type)
            text += event.delta if event.type == "response.reasoning_text.delta" else ""
        assert text == item.content[0].text
        assert kinds[:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert kinds[-4:] == [
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]


def test_messages_have_a_block_of_thinking(server: RunningServer) -> None:
    anthropic = pytest.importorskip("anthropic")
    settings = {
        "model": "thinker",
        "max_tokens": 8,
        "messages": QUESTION,
        "extra_body": {"seed": 7, "temperature": 1},
    }
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as claude:
        [block] = claude.messages.create(**settings).content
        with claude.messages.stream(**settings) as stream:
            deltas = "".join(event.thinking for event in stream if event.type == "thinking")
    assert block.type == "thinking"
    assert deltas == block.thinking != ""


def test_an_unknown_form_of_the_answer_is_not_reasoning(server: RunningServer) -> None:
    with server.client as client:
        answer = client.chat.completions.create(
            model="thinker", messages=QUESTION, max_tokens=20, extra_body={"regex": "ab+c"}
        )
    assert (answer.choices[0].message.content or "").startswith("ab")
