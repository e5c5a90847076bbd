"""`/v1/messages` as Anthropic's official client sees it: whole and streamed, with tools, counts and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import parakit
from tests.serving.conftest import RunningServer

anthropic = pytest.importorskip("anthropic")
pytest.importorskip("llguidance")

TOOL: dict[str, Any] = {
    "name": "read_file",
    "description": "Reads a file.",
    "input_schema": {
        "type": "object",
        "properties": {
            "path": {"enum": ["a.txt", "b.txt"]},
            "n": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["path", "n"],
        "additionalProperties": False,
    },
}
QUESTION = [{"role": "user", "content": "the small bird"}]
COLD = {"temperature": 0}  # which the client has no argument for
GREEDY: dict[str, Any] = {"model": "wide", "max_tokens": 6, "extra_body": COLD}


@pytest.fixture
def claude(wide_server: RunningServer) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=wide_server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_the_text_is_that_of_the_library(claude: Any, published_wide: Path) -> None:
    expected = parakit.load(published_wide).completions(
        [{"role": "system", "content": "Be brief."}, *QUESTION], max_new_tokens=6, temperature=0
    )[0]
    answer = claude.messages.create(system="Be brief.", messages=QUESTION, **GREEDY)
    assert answer.content[0].text == expected.text
    assert answer.stop_reason == "max_tokens"
    usage = answer.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == expected.n_prompt_tokens
    assert usage.output_tokens == 6
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    again = claude.messages.create(system=blocks, messages=QUESTION, **GREEDY)
    assert again.content[0].text == expected.text
    assert again.usage.cache_read_input_tokens > 0


def test_streamed_events_come_in_order_and_join_to_the_whole(claude: Any) -> None:
    whole = claude.messages.create(messages=QUESTION, **GREEDY)
    with claude.messages.stream(messages=QUESTION, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 6)
    kinds = [event.type for event in claude.messages.create(messages=QUESTION, stream=True, **GREEDY)]
    assert kinds[0] == "message_start"
    assert [kind for kind in kinds if kind not in ("ping", "content_block_delta")] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "read_file"}]
)
def test_a_call_of_a_tool_is_a_block(choice: dict[str, Any], claude: Any) -> None:
    settings = {
        "model": "wide",
        "max_tokens": 200,
        "tools": [TOOL],
        "tool_choice": choice,
        "extra_body": {"seed": 4},
    }
    whole = claude.messages.create(messages=QUESTION, **settings)
    [block] = whole.content
    assert whole.stop_reason == "tool_use"
    assert block.type == "tool_use"
    assert block.input["path"] in ("a.txt", "b.txt")
    with claude.messages.stream(messages=QUESTION, **settings) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert json.loads("".join(parts)) == block.input == final.content[0].input


def test_a_result_goes_back_and_the_prefix_is_read_from_the_cache(claude: Any) -> None:
    settings: dict[str, Any] = {"model": "wide", "max_tokens": 3, "tools": [TOOL], "extra_body": COLD}
    first = claude.messages.create(messages=QUESTION, **settings)
    call = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a.txt", "n": 1}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "one line"}],
    }
    turns = [
        *QUESTION,
        {"role": "assistant", "content": [{"type": "text", "text": "I read."}, call]},
        {"role": "user", "content": [result, {"type": "text", "text": "Go on."}]},
    ]
    second = claude.messages.create(messages=turns, **settings)
    read = second.usage.cache_read_input_tokens
    n_first = first.usage.input_tokens + first.usage.cache_read_input_tokens
    assert n_first - 32 <= read <= n_first  # all but what the last page and the generation prompt hold
    counted = claude.messages.count_tokens(model="wide", messages=turns, tools=[TOOL])
    assert counted.input_tokens == second.usage.input_tokens + read


def test_a_stop_sequence_is_named(claude: Any) -> None:
    text = claude.messages.create(messages=QUESTION, **(GREEDY | {"max_tokens": 20})).content[0].text
    stop = text[-2:]
    answer = claude.messages.create(messages=QUESTION, stop_sequences=[stop], **(GREEDY | {"max_tokens": 20}))
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert "".join(block.text for block in answer.content) == text[: text.index(stop)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}
            ]
        },
        "a block of type 'image'",
    ),
    "server tool": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "runs at a provider"),
    "choice": ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "read"}}, "no tool is named"),
    "format": ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    "no messages": ({"messages": []}, "messages: there are none"),
    "servers": ({"extra_body": {"mcp_servers": [{"name": "x"}]}}, "calls no others"),
    "misspelled": ({"extra_body": {"stop_sequence": ["a"]}}, "did you mean stop_sequences"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_an_error_in_this_form(case: str, claude: Any) -> None:
    settings, reason = REFUSED[case]
    with pytest.raises(anthropic.BadRequestError, match=reason) as caught:
        claude.messages.create(**({"messages": QUESTION} | GREEDY | settings))
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(claude: Any) -> None:
    with pytest.raises(anthropic.NotFoundError, match="did you mean wide"):
        claude.messages.create(messages=QUESTION, **(GREEDY | {"model": "wid"}))


def test_keys_of_coding_agents_change_nothing(claude: Any) -> None:
    plain = claude.messages.create(messages=QUESTION, **GREEDY)
    settings = {
        "metadata": {"user_id": "someone"},
        "thinking": {"type": "disabled"},
        "extra_body": COLD | {"context_management": {"edits": []}, "cache_control": {"type": "ephemeral"}},
    }
    assert claude.messages.create(messages=QUESTION, **(GREEDY | settings)).content == plain.content


def test_an_answer_of_a_schema(claude: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"enum": [1, 2]}},
        "required": ["x"],
        "additionalProperties": False,
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    answer = claude.messages.create(messages=QUESTION, output_config=config, **(GREEDY | {"max_tokens": 60}))
    assert json.loads(answer.content[0].text)["x"] in (1, 2)
    assert answer.stop_reason == "end_turn"


def test_each_form_gives_the_same_text(claude: Any, wide_client: openai.OpenAI) -> None:
    chat = wide_client.chat.completions.create(
        model="wide", messages=[{"role": "user", "content": "the small bird"}], max_tokens=6, temperature=0
    )
    response = wide_client.responses.create(
        model="wide", input="the small bird", max_output_tokens=6, temperature=0
    )
    message = claude.messages.create(messages=QUESTION, **GREEDY)
    assert chat.choices[0].message.content == response.output_text == message.content[0].text
