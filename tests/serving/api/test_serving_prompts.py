"""Prompts served as MODEL:PROMPT, driven by the official client. The reference is `parakit prompts run`: the same replies for
the same tokens; ids are those of the chat template on the conversation that the prompt's file describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import read_prompt
from parakit.assistants.prompts.replies import PromptRequest, run_prompt
from parakit.common.errors import UserError
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.generation.text import prompt_ids
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.models.served_prompts import open_served_prompts
from tests.serving.conftest import RunningServer, start_server

PROMPTS = {
    "reviews": """
version: "2"
system: You judge {{ product }}.
template: "Review: {{ review }}"
values: {product: films}
examples: [{review: a joy, answer: good}]
settings: {max_new_tokens: 5}
""",
    "critique": """
template: "{{ question }}"
followups: ["Is it right? {{ question }}", "Now the answer."]
settings: {max_new_tokens: 4}
""",
    "steps": 'template: "{{ question }} Think."\nanswer_after: the\nsettings: {max_new_tokens: 12}',
    "shape": """
template: "{{ question }}"
answer_key: size
settings:
  json_schema: {type: object, properties: {size: {type: integer, maximum: 9}}, required: [size], additionalProperties: false}
""",
    "two": 'template: "{{ left }} or {{ right }}"\nsettings: {max_new_tokens: 3}',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("prompts")
    for name, text in PROMPTS.items():
        (place / f"{name}.yaml").write_text(text)
    return place


@pytest.fixture(scope="module")
def server(folder: Path, published_wide: Path) -> Iterator[RunningServer]:
    running = start_server([f"wide={published_wide}"], prompts=(str(folder),))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def model(published_wide: Path) -> LocalChatModel:
    return LocalChatModel.load(published_wide)


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_model_is_listed_with_each_prompt(server: RunningServer) -> None:
    with server.client as client:
        names = [one.id for one in client.models.list().data]
        assert names == ["wide", *(f"wide:{name}" for name in sorted(PROMPTS))]
        described = client.models.retrieve("wide:reviews").model_dump()
    assert described["parent"] == "wide"
    prompt = described["prompt"]
    assert (prompt["name"], prompt["version"], prompt["required"]) == ("reviews", "2", ["review"])


@pytest.mark.parametrize("name", ["reviews", "critique", "steps", "shape"])
def test_a_reply_is_that_of_prompts_run(
    name: str, server: RunningServer, folder: Path, model: LocalChatModel
) -> None:
    prompt = read_prompt(folder / f"{name}.yaml")
    (field,) = prompt.required
    [expected] = run_prompt(model, prompt, [PromptRequest(PromptItem("1", {field: "the bird"}))])
    wanted: dict[str, Any] = {"model": f"wide:{name}", "messages": user("the bird")}
    with server.client as client:
        whole = client.chat.completions.create(**wanted)
        options: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(**wanted, stream=True, stream_options=options))
    message, usage = whole.choices[0].message, whole.usage
    assert usage is not None
    assert (message.content or "").strip() == expected.reply
    assert (usage.prompt_tokens, usage.completion_tokens) == (expected.n_prompt_tokens, expected.n_new_tokens)
    streamed = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert streamed == message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == usage.total_tokens
    has_form = prompt.answer_after is not None or prompt.answer_key is not None
    last = next(one.choices[0].delta for one in chunks if one.choices and one.choices[0].finish_reason)
    for found in (message.model_dump(), last.model_dump()):
        assert ("answer" in found) == has_form
        assert found.get("answer") == (expected.answer if has_form else None)


def test_every_message_of_a_conversation_has_the_form_of_the_template(
    server: RunningServer, folder: Path, model: LocalChatModel
) -> None:
    conversation = [*user("the tree"), {"role": "assistant", "content": "good"}, *user("the bird")]
    expected = [
        {"role": "system", "content": "You judge books."},
        *user("Review: a joy"),
        {"role": "assistant", "content": "good"},
        *user("Review: the tree"),
        {"role": "assistant", "content": "good"},
        *user("Review: the bird"),
    ]
    ids = prompt_ids(model.tokenizer, expected)
    variables = {"variables": {"product": "books"}}
    with server.client as client, server.http as http:
        answer = client.chat.completions.create(
            model="wide:reviews", messages=conversation, extra_body={"prompt": variables}
        )
        shown = http.post("/tokenize", json={"model": "wide:reviews", "messages": conversation}).json()
        counted = http.post(
            "/v1/messages/count_tokens",
            json={"model": "wide:reviews", "messages": conversation, "prompt": variables},
        ).json()
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(ids) == counted["input_tokens"]
    films = [{**expected[0], "content": "You judge films."}, *expected[1:]]
    assert shown["tokens"] == prompt_ids(model.tokenizer, films)


def test_responses_name_the_prompt_by_its_id(server: RunningServer, model: LocalChatModel) -> None:
    named = {
        "id": "two",
        "version": "1",
        "variables": {"left": "a", "right": {"type": "input_text", "text": "b"}},
    }
    with server.client as client:
        filled: Any = client.responses.create(model="wide", prompt=named, temperature=0)  # type: ignore[arg-type]
        chat = client.chat.completions.create(
            model="wide:two",
            messages=user("a"),
            temperature=0,
            extra_body={"prompt": {"variables": {"right": "b"}}},
        )
        alone = client.chat.completions.create(
            model="wide", messages=user("a or b"), max_tokens=3, temperature=0
        )
    assert filled.output_text == chat.choices[0].message.content == alone.choices[0].message.content
    assert filled.usage.input_tokens == len(prompt_ids(model.tokenizer, user("a or b")))


def test_the_settings_of_a_request_come_before_those_of_the_prompt(server: RunningServer) -> None:
    with server.client as client:
        answer = client.chat.completions.create(
            model="wide:reviews", messages=user("the bird"), max_tokens=2, temperature=0
        )
        free = client.chat.completions.create(
            model="wide:shape", messages=user("the bird"), max_tokens=9, extra_body={"regex": "[a-c]+"}
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 2
    assert set(free.choices[0].message.content or "") <= set("abc")


REFUSED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "unknown prompt": ("wide:review", {"messages": user("x")}, 404, "did you mean wide:reviews"),
    "unknown id": ("wide", {"messages": user("x"), "prompt": {"id": "review"}}, 404, "did you mean reviews"),
    "no id": ("wide", {"messages": user("x"), "prompt": {"variables": {"a": "b"}}}, 404, "it has no id"),
    "other version": ("wide:reviews", {"messages": user("x"), "prompt": {"version": "3"}}, 404, "has version 2"),
    "two prompts": ("wide:reviews", {"messages": user("x"), "prompt": {"id": "two"}}, 400, "has one prompt"),
    "two open fields": ("wide:two", {"messages": user("x")}, 400, "reads left and right"),
    "unknown variable": (
        "wide:two", {"messages": user("x"), "prompt": {"variables": {"lefd": "b"}}}, 400, "did you mean 'left'"
    ),
    "nothing open": (
        "wide:steps", {"messages": user("x"), "prompt": {"variables": {"question": "b"}}}, 400, "has a value"
    ),
    "no message": ("wide:steps", {"messages": []}, 400, "neither a message of the user's nor a value"),
    "no message at all": ("wide", {"messages": []}, 400, "there are none"),
    "two system messages": (
        "wide:reviews", {"messages": [{"role": "system", "content": "a"}, *user("x")]}, 400, "has a system message"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_way_out(case: str, server: RunningServer) -> None:
    model, body, status, reason = REFUSED[case]
    with server.http as http:
        answer = http.post("/v1/chat/completions", json={"model": model, "max_tokens": 1, **body})
    assert (answer.status_code, reason in answer.json()["error"]["message"]) == (status, True), answer.text


def test_forms_without_a_conversation_take_no_prompt(server: RunningServer) -> None:
    with server.http as http:
        text = http.post("/v1/completions", json={"model": "wide:steps", "prompt": "x"})
        vectors = http.post("/v1/embeddings", json={"model": "wide:steps", "input": "x"})
    assert text.status_code == vectors.status_code == 400
    assert "a prompt for conversations" in text.json()["error"]["message"]
    assert "vectors take no prompt" in vectors.json()["error"]["message"]


def test_all_replies_of_a_request_are_one_row_of_the_ledger(
    make_server: Callable[..., RunningServer], folder: Path, published_wide: Path, tmp_path: Path
) -> None:
    accounts = Accounts(tmp_path / "accounts.sqlite")
    server = make_server([f"wide={published_wide}"], None, accounts, prompts=(str(folder / "critique.yaml"),))
    with server.client as client, server.http as http:
        answer = client.chat.completions.create(model="wide:critique", messages=user("the bird"))
        lines = http.get("/metrics").text.splitlines()
    assert answer.usage is not None
    server.stop()
    rows = accounts.connection.execute(
        "SELECT model, prompt_tokens, completion_tokens, outcome FROM requests"
    )
    used = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert rows.fetchall() == [("wide:critique", *used, "finished")]
    assert used[1] > 4
    assert 'parakit_requests_total{model="wide:critique",outcome="finished"} 1.0' in lines
    accounts.close()


def test_prompts_that_cannot_be_served_are_refused_at_the_start(tmp_path: Path) -> None:
    def refused(*given: str) -> str:
        with pytest.raises(UserError) as caught:
            open_served_prompts(given)
        return str(caught.value)

    chosen = tmp_path / "chosen.yaml"
    chosen.write_text('template: "{{ q }}"\nanswer_choices: [a, b]')
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "writes nothing" in refused(str(chosen))
    assert "draws 4 examples" in refused("few_shot")
    assert "has no prompts" in refused(str(empty))
    assert "did you mean zero_shot" in refused("zero-shots")
    assert "both have the name 'zero_shot'" in refused("zero_shot", "zero_shot")
    assert list(open_served_prompts(["zero_shot", "step_back"])) == ["zero_shot", "step_back"]
