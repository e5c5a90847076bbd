"""A conversation put into a prompt's templates, as MODEL:PROMPT serves it. Imports no torch.

A request names values of the prompt's fields, or leaves one field to the conversation: then every message of the user's is
that field, in the form of the prompt's template, so that the beginning of a growing conversation stays the same. The prompt's
system text and examples come first, its settings hold where the request sets none, and its followups are sent after the
replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from parakit.assistants.prompts.prompt import PromptTemplate, render, with_values
from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.inference.config import SamplingSettings
from parakit.serving.generation.call import GenerationCall

CONSTRAINTS = ("json_schema", "regex", "grammar")
TurnRow = Mapping[str, Any]


def fill_prompt(prompt: PromptTemplate, call: GenerationCall) -> GenerationCall:
    """The call with the prompt's messages, followups and settings. `UserError` for a text without a conversation, a field
    without a value, a value of no field, and a system message next to the prompt's own.
    """
    if call.messages is None:
        raise UserError(
            f"{call.model} is a prompt for conversations, and the request continues a text",
            "send messages to /v1/chat/completions, or name the model alone",
        )
    named = dict(with_values(prompt, dict(call.prompt_values)).values) if call.prompt_values else {}
    prompt = prompt.replace(values={**prompt.values, **named})
    rows = list(call.messages)
    field = _open_field(prompt, rows)
    n_system = next((i for i, row in enumerate(rows) if row["role"] != "system"), len(rows))
    if n_system and prompt.system:
        raise UserError(
            f"the prompt {prompt.name} has a system message, and the request has one, too",
            f"send none, or name the model alone: {call.model.rpartition(':')[0]}",
        )
    texts = [str(row.get("content") or "") for row in rows if row["role"] == "user"]
    first = {field: texts[0]} if field else {}
    last = {field: texts[-1]} if field else {}
    head = [one.to_row() for one in prompt.messages(first)]
    if field:
        turns = [_in_form(prompt, field, row) for row in rows[n_system:]]
        head = head[:-1]  # the first of the user's messages is among the turns
    else:
        turns = rows[n_system:]
    followups = tuple(render(text, {**prompt.values, **last}) for text in prompt.followups)
    return replace(
        call,
        messages=(*rows[:n_system], *head, *turns),
        followups=followups,
        sampling=_sampling(prompt, call),
        is_prompted=True,
    )


def _open_field(prompt: PromptTemplate, rows: Sequence[TurnRow]) -> str | None:
    """The field that the user's messages fill; None where every field has a value."""
    left = prompt.required
    asks = next((row["role"] for row in rows if row["role"] != "system"), None) == "user"
    if not left:
        if asks:
            fields = ", ".join(prompt.fields) or "none"
            raise UserError(
                f"every field of the prompt {prompt.name} ({fields}) has a value, and the conversation begins with a message of"
                " the user's",
                "leave one value out of prompt.variables, or leave the message out",
            )
        return None
    if len(left) > 1:
        raise UserError(
            f"the prompt {prompt.name} reads {' and '.join(left)}, and the messages fill one field",
            f"give the others by name: prompt.variables = {{{', '.join(f'{name!r}: ...' for name in left[1:])}}}",
        )
    if not any(row["role"] == "user" for row in rows):
        raise UserError(
            f"the prompt {prompt.name} reads {left[0]!r}, and the request has neither a message of the user's nor a value",
            "send a message, or prompt.variables",
        )
    return left[0]


def _in_form(prompt: PromptTemplate, field: str, row: TurnRow) -> TurnRow:
    """A message of the conversation; the user's in the form of the prompt's template."""
    if row["role"] != "user":
        return row
    text = render(prompt.template, {**prompt.values, field: str(row.get("content") or "")})
    return {**row, "content": text}


def _sampling(prompt: PromptTemplate, call: GenerationCall) -> SamplingSettings:
    """The prompt's settings under those of the request."""
    own: dict[str, Any] = {
        "max_new_tokens": prompt.settings.max_new_tokens,
        "temperature": prompt.settings.temperature,
    }
    is_constrained = any(call.sampling.get(name) is not None for name in CONSTRAINTS)
    if prompt.settings.json_schema is not None and not is_constrained:
        own["json_schema"] = prompt.settings.json_schema
    return {**own, **call.sampling}  # type: ignore[typeddict-item]


def followed_up(call: GenerationCall, number: int) -> GenerationCall:
    """The call for the reply before followup `number` (from 0): one reply, free in form, without tools."""
    last_only = (*CONSTRAINTS, "log_probabilities")
    sampling: dict[str, Any] = {key: value for key, value in call.sampling.items() if key not in last_only}
    return replace(call, sampling=_seeded(sampling, number), followups=(), n=1, tools=())


def last_reply(call: GenerationCall, messages: Sequence[TurnRow]) -> GenerationCall:
    """The call for the reply to the last followup, with the conversation before it."""
    sampling = _seeded(dict(call.sampling), len(call.followups))
    return replace(call, messages=tuple(messages), sampling=sampling, followups=())


def _seeded(sampling: dict[str, Any], number: int) -> SamplingSettings:
    """Each reply has a seed of its own, as `parakit prompts run` has it."""
    if sampling.get("seed") is not None:
        sampling["seed"] = (sampling["seed"] + number) % 2**63
    return sampling  # type: ignore[return-value]


def with_turn(messages: Sequence[TurnRow], reply: str, followup: str) -> tuple[TurnRow, ...]:
    """The conversation with a reply and the next message."""
    turns = (Message("assistant", reply.strip()), Message("user", followup))
    return (*messages, *(one.to_row() for one in turns))
