"""Prompts that the context window cannot hold: refused, or cut at the beginning, with a count of what was left out.

Prompt and completion share the window. What is kept leaves room for `max_new_tokens`, or for a quarter of the window if
that is less. A text loses its first tokens, never those that its tokenizer puts around a text; a conversation loses its
oldest whole turns, never its system prompt or its last message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.data.conversations.conversation import Message
from parakit.inference.config import DecodingConfig
from parakit.inference.generation.completion import Prompt, check_prompt, prompt_ids
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class FittedPrompt:
    """The ids to run, and what was left out of the prompt: tokens, and of a conversation messages, oldest first."""

    token_ids: list[int]
    n_dropped_tokens: int = 0
    n_dropped_messages: int = 0


def fit_prompt(
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: DecodingConfig,
    window: int,
    tools: Sequence[Any] | None = None,
) -> FittedPrompt:
    """The prompt's ids, cut to the window of so many tokens where `config.when_full` is drop_oldest. `UserError` for an
    empty prompt, and for one that the window cannot hold.
    """
    fitted = FittedPrompt(prompt_ids(tokenizer, prompt, tools))
    if config.when_full == "drop_oldest" and len(fitted.token_ids) + _room(config, window) > window:
        if isinstance(prompt, str):
            fitted = _without_beginning(tokenizer, fitted.token_ids, config, window)
        else:
            fitted = without_oldest_turns(tokenizer, prompt, config, window, tools)
    check_prompt(len(fitted.token_ids), window, "or leave out its beginning: when_full = drop_oldest")
    return fitted


def without_oldest_turns(
    tokenizer: Tokenizer,
    messages: Sequence[Message | Mapping[str, Any]],
    config: DecodingConfig,
    window: int,
    tools: Sequence[Any] | None = None,
) -> FittedPrompt:
    """A conversation without as few of its oldest turns as leave room for the answer; of one that never fits, its last
    turn. A turn begins with a message of the user. Left out are messages after the system prompt.
    """
    system = list(messages[:1]) if messages and _role(messages[0]) == "system" else []
    rest = messages[len(system) :]
    starts = [0, *(i for i, message in enumerate(rest) if i > 0 and _role(message) == "user")]
    whole = prompt_ids(tokenizer, messages, tools)

    def without(start: int) -> FittedPrompt:
        token_ids = whole if start == 0 else prompt_ids(tokenizer, [*system, *rest[start:]], tools)
        return FittedPrompt(token_ids, len(whole) - len(token_ids), start)

    if len(whole) + _room(config, window) <= window:
        return FittedPrompt(whole)
    first, last = 0, len(starts) - 1  # of a thousand turns, ten conversations are encoded
    found = without(starts[last])
    while first < last:
        middle = (first + last) // 2
        fitted = without(starts[middle])
        if len(fitted.token_ids) + _room(config, window) <= window:
            last, found = middle, fitted
        else:
            first = middle + 1
    return found


def _without_beginning(
    tokenizer: Tokenizer, token_ids: list[int], config: DecodingConfig, window: int
) -> FittedPrompt:
    before, after = map(len, text_boundaries(tokenizer))
    n_kept = max(window - _room(config, window), before + after + 1)
    n_dropped = len(token_ids) - n_kept
    return FittedPrompt([*token_ids[:before], *token_ids[before + n_dropped :]], n_dropped)


def _room(config: DecodingConfig, window: int) -> int:
    """Tokens that the prompt leaves for the completion."""
    return min(config.max_new_tokens, max(window // 4, 1))


def _role(message: Message | Mapping[str, Any]) -> str:
    return message.role if isinstance(message, Message) else message["role"]
