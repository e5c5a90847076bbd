"""Many conversations with tools at once: every model's turn of a round is one batch on the engine, then the calls are made.

A conversation's tokens are kept as they were generated, and only what follows a turn is compiled: the results, and the opening
of the next turn. So the tokens that a model wrote are those that it reads later, and those that it is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from parakit.common.errors import UserError
from parakit.common.seeds import derive_seed
from parakit.data.conversations.messages import Message, ToolCall
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.engine import Engine
from parakit.inference.tool_calls.prompt import tool_prompt
from parakit.inference.tool_calls.syntax import call_syntax
from parakit.inference.tool_calls.tools import Tool, ToolChoice
from parakit.inference.tool_calls.turn import read_turn, turn_ids, turn_request
from parakit.tokens.chat.template import compile_chat, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_TURNS = 8


@dataclass
class Episode:
    """A conversation that a model continues until it answers. `messages` begins with the prompt and grows."""

    messages: list[Message]
    call: Callable[[ToolCall], str]
    """Makes a call; the result as text."""
    prompt_ids: Sequence[int] | None = None
    """Of the prompt, where the caller has them."""
    token_ids: list[int] = field(default_factory=list)
    """Of everything after the prompt: the model's turns, and what was put between them."""
    counted: list[bool] = field(default_factory=list)
    """Which of them the model wrote."""
    outcome: Literal["answered", "max_new_tokens", "max_turns", "window"] | None = None

    @property
    def answer(self) -> str:
        """The last words of the model, where it ended by itself."""
        return self.messages[-1].content if self.outcome == "answered" else ""


def run_episodes(
    engine: Engine,
    tokenizer: Tokenizer,
    episodes: Sequence[Episode],
    tools: Sequence[Tool],
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    first: int = 0,
    max_turns: int = MAX_TURNS,
    is_constrained: bool = True,
) -> None:
    """Run every episode to its end; `sampling.max_new_tokens` is the limit of a turn. Without `is_constrained` the model
    draws from its own distribution, and a call may be none. A pure function of the seed, the number
    `first` of the first of the episodes, and the weights.
    """
    window, choice, ends = engine.model.config.max_seq_len, ToolChoice(), frozenset(stop_ids(tokenizer))
    for episode in episodes:
        if episode.prompt_ids is None:
            episode.prompt_ids = turn_ids(tokenizer, episode.messages, tools)
    for round_number in range(max_turns):
        handles = []
        for number, episode in enumerate(episodes):
            if episode.outcome is not None:
                continue
            context = [*(episode.prompt_ids or ()), *episode.token_ids]
            room = min(sampling.max_new_tokens, window - len(context))
            if room < 1:
                episode.outcome = "window"
                continue
            request = turn_request(
                tokenizer,
                episode.messages,
                tools,
                choice,
                sampling.replace(max_new_tokens=room),
                seed=derive_seed(seed, "episode", first + number, round_number) % 2**63,
                token_ids=context,
                is_constrained=is_constrained,
            )
            handles.append((episode, engine.submit(request)))
        if not handles:
            return
        engine.run()
        for episode, handle in handles:
            _take_turn(tokenizer, episode, tools, handle.completions[0].token_ids, ends)
    for episode in episodes:
        episode.outcome = episode.outcome or "max_turns"


def _take_turn(
    tokenizer: Tokenizer,
    episode: Episode,
    tools: Sequence[Tool],
    token_ids: Sequence[int],
    ends: frozenset[int],
) -> None:
    """Add what the model wrote, and where it calls, the results and the opening of its next turn."""
    episode.token_ids += token_ids
    episode.counted += [True] * len(token_ids)
    turn = read_turn(tokenizer, tools, token_ids)
    episode.messages.append(turn.to_message())
    if not token_ids or token_ids[-1] not in ends:
        episode.outcome = "max_new_tokens"
        return
    if not turn.calls:
        episode.outcome = "answered"
        return
    before = _ids(tokenizer, episode.messages, tools, False)
    episode.messages += [
        Message("tool", episode.call(call), name=call.name, tool_call_id=call.id) for call in turn.calls
    ]
    after = _ids(tokenizer, episode.messages, tools, True)
    if after[: len(before)] != before:
        raise UserError(
            "the chat template writes a turn with calls differently once results follow",
            "take a model whose template does not change what was written",
        )
    following = after[len(before) :]
    episode.token_ids += following
    episode.counted += [False] * len(following)


def _ids(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Sequence[Tool], opens_turn: bool
) -> list[int]:
    prompt = tool_prompt(messages, tools, call_syntax(tokenizer))
    chat = compile_chat(tokenizer, prompt.messages, add_generation_prompt=opens_turn, tools=prompt.tools)
    return chat.token_ids
