"""Conversations with tools in rounds: what was generated stays as it was, and the whole is what training would compile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from parakit.data.conversations.conversation import Conversation
from parakit.data.conversations.messages import Message
from parakit.inference.config import SamplingConfig
from parakit.inference.tool_calls.episodes import Episode, run_episodes
from parakit.inference.tool_calls.tools import parse_tool
from parakit.primer.tool_tasks import generate_tool_tasks
from parakit.primer.tool_world import TOOLS, ToolTask, ToolWorld, outcome
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.chat.template_support import supported_form
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.alignment.tiny_chat_model import tiny_chat_model

FUNCTIONS = [parse_tool(row["function"]) for row in json.loads(TOOLS)]
TASKS = [conversation for _, conversation in generate_tool_tasks(7, held_out=True)]


class WrittenTurns:
    """An engine whose model writes the assistant's turns of given conversations, each to its end."""

    def __init__(
        self, tokenizer: Tokenizer, conversations: Sequence[Conversation], window: int = 10_000
    ) -> None:
        self.turns, self.prompts = list[list[int]](), list[list[int]]()
        for conversation in conversations:
            chat = compile_chat(tokenizer, supported_form(tokenizer, conversation))
            previous = False
            for token_id, counts in zip(chat.token_ids, chat.loss_mask, strict=True):
                if counts and not previous:
                    self.turns.append([])
                if counts:
                    self.turns[-1].append(token_id)
                previous = counts
        self.model = SimpleNamespace(config=SimpleNamespace(max_seq_len=window))

    def submit(self, request: Any) -> Any:
        self.prompts.append(list(request.token_ids))
        turn = self.turns[min(len(self.prompts), len(self.turns)) - 1][: request.sampling.max_new_tokens]
        return SimpleNamespace(completions=[SimpleNamespace(token_ids=turn)])

    def run(self) -> None:
        """At once."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny_chat_model()[1]


def _run(
    tokenizer: Tokenizer, conversation: Conversation, window: int = 10_000, **settings: Any
) -> tuple[Episode, WrittenTurns, ToolWorld]:
    engine = WrittenTurns(tokenizer, [conversation], window)
    world = ToolWorld(ToolTask.from_tests(conversation.tests))
    episode = Episode([conversation.messages[0]], lambda call: world.call(call.name, call.arguments))
    sampling = SamplingConfig(max_new_tokens=settings.pop("max_new_tokens", 500))
    run_episodes(engine, tokenizer, [episode], FUNCTIONS, sampling, is_constrained=False, **settings)  # type: ignore[arg-type]
    return episode, engine, world


@pytest.mark.parametrize("conversation", TASKS, ids=lambda one: one.messages[0].content)
def test_the_tokens_and_those_that_count_are_what_training_compiles(
    conversation: Conversation, tokenizer: Tokenizer
) -> None:
    episode, engine, _ = _run(tokenizer, conversation)
    compiled = compile_chat(tokenizer, supported_form(tokenizer, conversation))
    prompt = list(episode.prompt_ids or ())
    assert prompt + episode.token_ids == compiled.token_ids
    assert [False] * len(prompt) + episode.counted == compiled.loss_mask
    assert all(
        later[: len(first)] == first for first, later in zip(engine.prompts, engine.prompts[1:], strict=False)
    )
    assert episode.outcome == "answered"
    assert episode.answer == conversation.messages[-1].content
    task = ToolTask.from_tests(conversation.tests)
    assert outcome(task, episode.messages).is_solved


def test_limits_of_turns_tokens_and_the_window_end_an_episode(tokenizer: Tokenizer) -> None:
    conversation = TASKS[2]
    assert _run(tokenizer, conversation, max_turns=1)[0].outcome == "max_turns"
    cut = _run(tokenizer, conversation, max_new_tokens=5)[0]
    assert (cut.outcome, len(cut.token_ids), cut.answer) == ("max_new_tokens", 5, "")
    whole = len(_run(tokenizer, conversation)[1].prompts[1])
    full = _run(tokenizer, conversation, window=whole)[0]
    assert full.outcome == "window"
    assert isinstance(full.messages[-1], Message)


def test_arguments_that_are_no_json_get_an_error_and_the_episode_goes_on(tokenizer: Tokenizer) -> None:
    engine = WrittenTurns(tokenizer, [TASKS[0]])
    call = ' <tool_call>\n{"name": "count_items", "arguments": {"person": "Anna" 3}}\n</tool_call>'
    engine.turns[0] = [*tokenizer.encode(call), engine.turns[0][-1]]
    world = ToolWorld(ToolTask.from_tests(TASKS[0].tests))
    episode = Episode([TASKS[0].messages[0]], lambda made: world.call(made.name, made.arguments))
    run_episodes(engine, tokenizer, [episode], FUNCTIONS, SamplingConfig(), is_constrained=False)  # type: ignore[arg-type]
    assert episode.outcome == "answered"
    assert (world.n_calls, world.n_invalid) == (1, 1)
    (made,) = episode.messages[1].tool_calls
    assert made.to_row()["function"]["arguments"] == {"invalid": '{"person": "Anna" 3}'}
