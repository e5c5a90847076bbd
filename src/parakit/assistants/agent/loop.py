"""The loop: the model takes a turn, its calls are confirmed and made, the results follow, until it answers or a limit ends it.

A result is text in the turn of a tool: what a document or a page says there can neither become a control token (the template's
are ids) nor make a call, which the model alone writes, and a call that may change something waits for a confirmation.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from parakit.assistants.agent.config import AgentConfig
from parakit.assistants.agent.models import AgentModel, WindowFull
from parakit.assistants.tools.tool import AgentTool, ToolBox, ToolResult
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message, ToolCall

AgentOutcome = Literal[
    "answered", "max_steps", "max_tokens", "max_seconds", "repeats", "window", "interrupted"
]
ENDINGS: dict[AgentOutcome, str] = {
    "answered": "the model answered",
    "max_steps": "ended: the model took max_steps turns",
    "max_tokens": "ended: the model generated max_tokens tokens",
    "max_seconds": "ended: the run took max_seconds",
    "repeats": "ended: the same call gave the same result again and again",
    "window": "ended: the conversation does not fit the context window",
    "interrupted": "ended: interrupted",
}
REFUSED = "error: the user did not allow this call"
ConfirmCall = Callable[[AgentTool, ToolCall], bool]
"""Whether a call that may change something takes place."""


@dataclass(frozen=True)
class CallRecord:
    """A call with its result; `was_made` False: it was refused."""

    call: ToolCall
    result: ToolResult
    was_made: bool = True

    def to_row(self) -> JsonObject:
        """As JSON."""
        return {
            "name": self.call.name,
            "arguments": json.loads(self.call.arguments),
            "result": self.result.text,
            "is_error": self.result.is_error,
            "was_made": self.was_made,
            "seconds": round(self.result.seconds, 4),
            "n_omitted_chars": self.result.n_omitted_chars,
        }


@dataclass(frozen=True)
class AgentStep:
    """A turn of the model and the calls that it made."""

    number: int
    message: Message
    calls: tuple[CallRecord, ...]
    n_prompt_tokens: int
    n_tokens: int
    seconds: float

    def to_row(self) -> JsonObject:
        """As JSON."""
        return {
            "step": self.number,
            "text": self.message.content,
            "reasoning": self.message.reasoning_content,
            "calls": [record.to_row() for record in self.calls],
            "n_prompt_tokens": self.n_prompt_tokens,
            "n_tokens": self.n_tokens,
            "seconds": round(self.seconds, 4),
        }


@dataclass
class AgentRun:
    """A task with all turns. `messages` is the whole conversation, which can be tuned on."""

    messages: list[Message]
    steps: list[AgentStep] = field(default_factory=list)
    outcome: AgentOutcome = "interrupted"
    reason: str = ENDINGS["interrupted"]
    seconds: float = 0.0

    @property
    def answer(self) -> str:
        """The model's last words, where it ended by itself."""
        return self.messages[-1].content if self.outcome == "answered" else ""

    @property
    def n_tokens(self) -> int:
        """Tokens that the model generated."""
        return sum(step.n_tokens for step in self.steps)

    @property
    def calls(self) -> list[CallRecord]:
        """All calls, in order."""
        return [record for step in self.steps for record in step.calls]

    def end(self, outcome: AgentOutcome, reason: str = "") -> AgentRun:
        """The run, with how it ended."""
        self.outcome, self.reason = outcome, reason or ENDINGS[outcome]
        return self

    def to_row(self) -> JsonObject:
        """As JSON, without the messages."""
        return {
            "answer": self.answer,
            "outcome": self.outcome,
            "reason": self.reason,
            "n_steps": len(self.steps),
            "n_calls": sum(record.was_made for record in self.calls),
            "n_refused_calls": sum(not record.was_made for record in self.calls),
            "n_tokens": self.n_tokens,
            "seconds": round(self.seconds, 4),
        }


def never(_: AgentTool, __: ToolCall) -> bool:
    """Refuse: where nobody can be asked, nothing is changed."""
    return False


def run_agent(
    model: AgentModel,
    messages: Sequence[Message],
    box: ToolBox,
    config: AgentConfig | None = None,
    *,
    confirm: ConfirmCall = never,
    on_step: Callable[[AgentStep], object] | None = None,
) -> AgentRun:
    """Work on a conversation that ends with a user's turn. `confirm` decides on calls that may change something; by default
    they are refused. `on_step` is called after each turn with its calls.

    Ends with an outcome, whatever tools do. Raises `UserError` for an endpoint that fails and tools that are none; an
    interruption (`KeyboardInterrupt`) passes through, after `on_step` of what is complete.
    """
    config = config or AgentConfig()
    run, started, seen = AgentRun(list(messages)), time.perf_counter(), Counter[tuple[str, str, str]]()
    while True:
        run.seconds = time.perf_counter() - started
        if len(run.steps) == config.max_steps:
            return run.end("max_steps")
        if run.n_tokens >= config.max_tokens:
            return run.end("max_tokens")
        if run.seconds >= config.max_seconds:
            return run.end("max_seconds")
        step_started = time.perf_counter()
        try:
            room = min(config.max_new_tokens, config.max_tokens - run.n_tokens)
            turn = model.turn(run.messages, box.schemas, room, config)
        except WindowFull as error:
            return run.end("window", f"{error.message}; {error.hint}")
        run.messages.append(turn.message)
        records = _make_calls(turn.message.tool_calls, box, config, confirm)
        run.messages += [
            Message("tool", one.result.text, name=one.call.name, tool_call_id=one.call.id) for one in records
        ]
        step = AgentStep(
            len(run.steps) + 1,
            turn.message,
            tuple(records),
            turn.n_prompt_tokens,
            turn.n_tokens,
            time.perf_counter() - step_started,
        )
        run.steps.append(step)
        run.seconds = time.perf_counter() - started
        if on_step is not None:
            on_step(step)
        if not records:
            if turn.is_cut_off:
                return run.end("max_tokens", f"ended: a turn has max_new_tokens = {room} tokens")
            return run.end("answered")
        for one in records:
            seen[one.call.name, one.call.arguments, one.result.text] += 1
        call, n_times = max(seen.items(), key=lambda item: item[1])
        if n_times > config.max_repeats:
            return run.end("repeats", f"{ENDINGS['repeats']}: {call[0]}, {n_times} times")


def _make_calls(
    calls: Sequence[ToolCall], box: ToolBox, config: AgentConfig, confirm: ConfirmCall
) -> list[CallRecord]:
    """The calls of one turn with their results, in order; those that nobody confirms are refused."""
    records: dict[int, CallRecord] = {}
    made: list[int] = []
    for number, call in enumerate(calls):
        tool = box.find(call.name)
        if number >= config.max_calls:
            text = f"error: a turn has at most {config.max_calls} calls; this one was not made"
            records[number] = CallRecord(call, ToolResult(text, True), False)
        elif tool is not None and tool.changes and not confirm(tool, call):
            records[number] = CallRecord(call, ToolResult(REFUSED, True), False)
        else:
            made.append(number)
    results = box.call_all([(calls[i].name, calls[i].arguments) for i in made])
    records |= {i: CallRecord(calls[i], result) for i, result in zip(made, results, strict=True)}
    return [records[number] for number in range(len(calls))]
