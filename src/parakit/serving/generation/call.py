"""A request to generate, as every form of the API gives it on, and what it used. Imports no torch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from parakit.inference.config import SamplingSettings, WhenFull
from parakit.inference.tool_calls.tools import Tool, ToolChoice

GenerationOutcome = Literal["finished", "cancelled", "failed", "refused"]


@dataclass(frozen=True, kw_only=True)
class GenerationCall:
    """What to complete, with which model, and how: `messages`, or a `prompt`, or its `token_ids`."""

    model: str
    """As the request names it: `MODEL` or `MODEL:ADAPTER`, with a prompt `MODEL:PROMPT` or `MODEL:ADAPTER:PROMPT`."""
    messages: tuple[Mapping[str, Any], ...] | None = None
    """Of a conversation, in the form that chat templates get."""
    prompt_values: Mapping[str, str] = field(default_factory=dict)
    """Values of a served prompt's fields."""
    followups: tuple[str, ...] = ()
    """Messages of the user's that are sent after the replies, one after each."""
    is_prompted: bool = False
    """Whether `messages` are in the form of a served prompt, whose settings hold instead of the publisher's."""
    prompt: str | None = None
    token_ids: tuple[int, ...] | None = None
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    """The settings that the request sets; the others are the server's, the publisher's, or the defaults."""
    n: int = 1
    tools: tuple[Tool, ...] = ()
    """Functions that the model may call."""
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    when_full: WhenFull | None = None
    """What happens to a conversation over the context window; None: as the server was started."""
    client: str = ""
    """Whose request it is: clients get equal shares of a model."""
    account: Any = None
    """Who pays for it; None where the server has no accounts."""
    request_id: str = field(default_factory=lambda: new_id("req"))

    @property
    def may_call(self) -> bool:
        """Whether the model may call a tool."""
        return bool(self.tools) and self.tool_choice.mode != "none"


@dataclass(frozen=True)
class Usage:
    """Tokens that went through the model for one request."""

    prompt_tokens: int = 0
    """Of the prompt, read once whatever `n` is: those that were computed and those of the cache."""
    cached_tokens: int = 0
    """Of these, those that the cache held from earlier requests."""
    completion_tokens: int = 0
    """Of all completions, the tokens that end them included."""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


class MeterRow(Protocol):
    """The row of a ledger that belongs to one generation."""

    def count(self, usage: Usage) -> None:
        """What has gone through the model so far: what a killed server charges."""
        ...

    def finish(self, usage: Usage, outcome: GenerationOutcome) -> None:
        """The generation has ended: called once, before the meter's block is left."""
        ...


class Meter(Protocol):
    """What counts generations for the accounts that pay for them."""

    def meter(self, account: Any, call: GenerationCall) -> AbstractAsyncContextManager[MeterRow]:
        """A block around each generation. Raising on entry refuses it."""
        ...


def new_id(kind: str) -> str:
    """A random id such as `chatcmpl-...`."""
    return f"{kind}-{secrets.token_hex(12)}"
