"""The loop: results reach the model, nothing changes unconfirmed, each limit ends it and says so, and every run is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.assistants.agent.config import AgentConfig
from parakit.assistants.agent.loop import REFUSED, never, run_agent
from parakit.assistants.agent.transcripts import CONVERSATIONS, RunTranscript
from parakit.assistants.tools.functions import function_tool, read_only
from parakit.assistants.tools.tool import ToolBox
from parakit.data.conversations.conversation import read_conversations
from parakit.data.conversations.messages import Message
from tests.assistants.agent.scripted_model import ScriptedModel

TASK = [Message("user", "Send 7 + 5 to Anna.")]


@read_only
def add(a: int, b: int) -> int:
    return a + b


class Mailbox:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, text: str) -> str:
        self.sent.append(text)
        return "sent"


def _box(mailbox: Mailbox) -> ToolBox:
    return ToolBox([function_tool(add), function_tool(mailbox.send)])


def test_results_reach_the_model_and_its_last_words_are_the_answer() -> None:
    model = ScriptedModel([("add", '{"a": 7, "b": 5}'), ("add", '{"a": 1}'), ("sub", "{}")], "It is 12.")
    steps = []
    run = run_agent(model, TASK, _box(Mailbox()), on_step=steps.append)
    assert (run.outcome, run.answer, run.n_tokens) == ("answered", "It is 12.", 20)
    assert [one.result.text for one in run.calls] == [
        "12",
        "error: the arguments do not fit: b: field required",
        "error: there is no tool 'sub'; the tools are add, send",
    ]
    results = model.seen[1][-3:]
    assert [(one.role, one.name, one.tool_call_id) for one in results] == [
        ("tool", "add", "c10"), ("tool", "add", "c11"), ("tool", "sub", "c12"),
    ]  # fmt: skip
    assert steps == run.steps


def test_what_may_change_something_is_made_only_when_confirmed() -> None:
    call, mailbox = [("send", '{"text": "12"}')], Mailbox()
    model = ScriptedModel(call, "Not sent.")
    run = run_agent(model, TASK, _box(mailbox), confirm=never)
    assert mailbox.sent == []
    assert model.seen[1][-1].content == REFUSED
    assert (run.to_row()["n_calls"], run.to_row()["n_refused_calls"]) == (0, 1)
    shown = []
    run_agent(
        ScriptedModel(call, "Sent."),
        TASK,
        _box(mailbox),
        confirm=lambda tool, made: shown.append((tool.name, made.arguments)) or True,
    )
    assert mailbox.sent == ["12"]
    assert shown == [("send", '{"text": "12"}')]
    run_agent(ScriptedModel([("add", '{"a": 1, "b": 1}')], "2"), TASK, _box(mailbox), confirm=never)
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("outcome", "settings", "n_steps"),
    [
        ("max_steps", {"max_steps": 3, "max_repeats": 99}, 3),
        ("max_tokens", {"max_tokens": 25, "max_repeats": 99}, 3),
        ("max_seconds", {"max_seconds": 1e-9}, 0),
        ("repeats", {"max_repeats": 2}, 3),
    ],
)
def test_each_limit_ends_the_run_and_says_so(outcome: str, settings: dict, n_steps: int) -> None:
    model = ScriptedModel([("add", '{"a": 7, "b": 5}')])
    run = run_agent(model, TASK, _box(Mailbox()), AgentConfig(**settings))
    assert (run.outcome, len(run.steps), run.answer) == (outcome, n_steps, "")
    assert run.reason.startswith("ended: ")
    if outcome == "repeats":
        assert run.reason.endswith("add, 3 times")


def test_a_call_whose_result_changes_is_no_repetition_and_alternating_calls_are() -> None:
    n = iter(range(100))

    @read_only
    def clock() -> int:
        return next(n)

    box = ToolBox([function_tool(clock), function_tool(add)])
    polling = ScriptedModel(*[[("clock", "{}")]] * 6, "done")
    assert run_agent(polling, TASK, box).outcome == "answered"
    first, second = [("add", '{"a": 1, "b": 1}')], [("add", '{"a": 2, "b": 2}')]
    assert run_agent(ScriptedModel(*[first, second] * 9), TASK, box).outcome == "repeats"


def test_calls_over_the_limit_of_a_turn_are_refused() -> None:
    model = ScriptedModel([("add", f'{{"a": {i}, "b": 1}}') for i in range(4)], "done")
    run = run_agent(model, TASK, _box(Mailbox()), AgentConfig(max_calls=2))
    assert [one.was_made for one in run.calls] == [True, True, False, False]


def test_every_run_is_kept_line_by_line_and_as_a_conversation_to_tune_on(tmp_path: Path) -> None:
    box, config = _box(Mailbox()), AgentConfig()
    model = ScriptedModel([("add", '{"a": 7, "b": 5}')], "It is 12.")
    record = RunTranscript(tmp_path, model.name, TASK, box, config)
    run = run_agent(model, TASK, box, config, on_step=record.add)
    lines = [json.loads(line) for line in record.path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "step", "step"]  # before the end
    record.finish(run)
    lines = [json.loads(line) for line in record.path.read_text().splitlines()]
    assert lines[-1]["event"] == "end"
    assert lines[-1]["answer"] == "It is 12."
    assert lines[1]["calls"][0]["result"] == "12"
    (conversation,) = read_conversations(tmp_path / CONVERSATIONS)
    assert list(conversation.messages) == run.messages
    assert [one["function"]["name"] for one in json.loads(conversation.tools or "")] == ["add", "send"]

    class Interrupted(ScriptedModel):
        def turn(self, *args: object, **kwargs: object):  # type: ignore[override, no-untyped-def]
            if self.seen:
                raise KeyboardInterrupt
            return super().turn(*args, **kwargs)  # type: ignore[arg-type]

    with (
        pytest.raises(KeyboardInterrupt),
        RunTranscript(tmp_path, model.name, TASK, box, config) as broken,
    ):
        run_agent(Interrupted([("add", "{}")]), TASK, box, config, on_step=broken.add)
    lines = [json.loads(line) for line in broken.path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "step", "end"]
    assert lines[-1]["outcome"] == "interrupted"
