"""Tasks that are solved by calls: each conversation solves its own, another outcome does not, and held-out pairs stay apart."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message, ToolCall
from parakit.primer.config import PrimerConversationsConfig
from parakit.primer.generation import generate_conversations
from parakit.primer.seeded_random import is_held_out
from parakit.primer.tool_tasks import KINDS, generate_tool_tasks
from parakit.primer.tool_world import CHANGING, FUNCTIONS, ToolTask, ToolWorld, outcome


def test_each_conversation_solves_its_task_with_valid_calls() -> None:
    kinds = set()
    for kind, conversation in generate_tool_tasks(140):
        found = outcome(ToolTask.from_tests(conversation.tests), conversation.messages)
        assert found.is_solved, conversation
        assert found.n_invalid == 0
        assert (found.n_calls == 0) == (kind == "no_call")
        kinds.add(kind)
    assert kinds == set(KINDS)


def test_a_wrong_number_a_state_that_was_not_changed_and_a_needless_call_do_not_solve() -> None:
    tasks = dict(generate_tool_tasks(len(KINDS), held_out=True))
    for kind, conversation in tasks.items():
        task, messages = ToolTask.from_tests(conversation.tests), list(conversation.messages)
        wrong = [*messages[:-1], Message("assistant", "It is 77 in Nowhere.")]
        assert outcome(task, wrong).is_solved == (kind == "no_call")
        assert not outcome(task, messages[:-1]).is_solved
        without_calls = [message for message in messages if not message.tool_calls]
        assert outcome(task, without_calls).is_solved == (kind not in ("gift", "gift_of_all") or _fails(task))
        call = Message("assistant", "", tool_calls=(ToolCall("calculate", '{"expression": "1 + 1"}'),))
        assert outcome(task, [messages[0], call, *messages[1:]]).is_solved == (kind != "no_call")


def _fails(task: ToolTask) -> bool:
    return task.stock == task.after


def test_held_out_pairs_never_occur_in_training() -> None:
    def pairs(held_out: bool) -> set[tuple[str, str]]:
        found = set()
        for kind, conversation in generate_tool_tasks(280, held_out=held_out):
            if kind == "count":
                (call,) = conversation.messages[1].tool_calls
                found.add(tuple(json.loads(call.arguments).values()))
        return found

    assert all(not is_held_out(20, "tools", *pair) for pair in pairs(False))
    assert all(is_held_out(20, "tools", *pair) for pair in pairs(True))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("steal", "{}"),
        ("count_items", "{"),
        ("count_items", '{"person": "Anna"}'),
        ("count_items", '{"person": "Anna", "item": 3}'),
        ("give_items", '{"giver": "Anna", "receiver": "Tom", "item": "hats", "number": true}'),
        ("calculate", "[1]"),
    ],
)
def test_calls_that_are_none_are_counted_and_change_nothing(name: str, arguments: str) -> None:
    world = ToolWorld(ToolTask({"Anna": {"hats": 3}}, {}, {}))
    assert world.call(name, arguments).startswith("error")
    assert (world.n_calls, world.n_invalid, world.stock) == (1, 1, {"Anna": {"hats": 3}})


def test_gifts_move_what_is_there_and_nothing_else() -> None:
    world = ToolWorld(ToolTask({"Anna": {"hats": 3}}, {}, {}))
    gift = {"giver": "Anna", "receiver": "Tom", "item": "hats"}
    assert world.call("give_items", gift | {"number": 4}) == "error: Anna has only 3 hats"
    assert world.call("give_items", gift | {"number": -1}).startswith("error")
    assert world.call("give_items", gift | {"number": 2}) == "done"
    assert world.stock == {"Anna": {"hats": 1}, "Tom": {"hats": 2}}
    assert world.call("calculate", {"expression": "12 - 20"}) == "-8"
    assert world.call("calculate", {"expression": "__import__('os')"}).startswith("error")
    assert {"give_items"} == CHANGING <= {one["function"]["name"] for one in FUNCTIONS}


def test_the_primer_generates_tasks_by_kind_and_others_name_the_way() -> None:
    config = PrimerConversationsConfig(kind="tools", n_conversations=9)
    made = list(generate_conversations(config))
    assert made == [conversation for _, conversation in generate_tool_tasks(9)]
    other = next(iter(generate_conversations(replace_kind(config))))
    with pytest.raises(UserError, match="kind: tools") as caught:
        ToolTask.from_tests(other.tests)
    assert caught.value.hint
    with pytest.raises(UserError):
        ToolTask.from_tests(replace(other, tests='{"tool_task": {}}').tests)


def test_tasks_of_one_conversation_share_a_state_and_the_last_one_is_its_outcome() -> None:
    config = PrimerConversationsConfig(kind="tools", n_conversations=60, max_tasks=5)
    made = list(generate_conversations(config))
    n_tasks = [sum(message.role == "user" for message in one.messages) for one in made]
    assert set(n_tasks) >= {1, 2, 3, 4}
    for conversation in made:
        task = ToolTask.from_tests(conversation.tests)
        assert outcome(task, conversation.messages).is_solved
        ids = [call.id for message in conversation.messages for call in message.tool_calls]
        assert len(ids) == len(set(ids))
        world = ToolWorld(task)
        results = [message.content for message in conversation.messages if message.role == "tool"]
        calls = [call for message in conversation.messages for call in message.tool_calls]
        assert [world.call(call.name, call.arguments) for call in calls] == results


def replace_kind(config: PrimerConversationsConfig) -> PrimerConversationsConfig:
    return config.replace(kind="chat")
