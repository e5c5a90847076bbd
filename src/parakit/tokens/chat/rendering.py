"""Renders a conversation by a tokenizer's chat template, with the origin of every character.

Messages and tools reach the template as transformers passes them: a key that is null is left out, reasoning is there under
the three names that templates read. `probe` learns from a small conversation what the template writes around a response.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Conversation, Message
from parakit.tokens.chat.template_sandbox import Rendering, TemplateError, TemplateWorker, render_all
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates
from parakit.tokens.tokenizer.special_tokens import END_OF_TURN, ROLES, TURN_MARKERS
from parakit.tokens.tokenizer.tokenizer import Tokenizer

ChatMessages = Conversation | Sequence[Message | Mapping[str, Any]]
_MARKER_OF_ROLE = "{" + ", ".join(f"'{role}': '{TURN_MARKERS[role]}'" for role in ROLES) + "}"
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    f"{{{{- {_MARKER_OF_ROLE}[message['role']] -}}}}"
    "{{- ' ' + message['content'] -}}"
    f"{{{{- '{TURN_MARKERS[END_OF_TURN]}' -}}}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{TURN_MARKERS['assistant']}' -}}}}{{%- endif -%}}"
)
_REASONING = ("reasoning_content", "thinking", "reasoning")
# What stands for a character of a message: for a letter, and for others. No token has it.
_WORD, _OTHER = "\u16a0", "\uffff"


@dataclass(frozen=True)
class SourceRun:
    """Consecutive characters of one origin: a text of the conversation (`owner` is the number of its message, None for a
    tool's; `repeats` where it is written once more), of unknown origin, or the template's own.
    """

    start: int
    end: int
    is_text: bool = False
    is_unknown: bool = False
    owner: int | None = None
    repeats: bool = False


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation; `assistants` are the numbers of the messages of that role."""

    text: str
    runs: list[SourceRun]
    assistants: Collection[int] = ()

    @cached_property
    def own_text(self) -> str:
        """The text, of the same length, without any character of a message or a tool."""
        return self._masked(lambda run, piece: _OTHER * len(piece))

    def masked(self, markers: re.Pattern[str] | None) -> str:
        """The same, but spaces stay spaces and letters letters, and an assistant's text keeps what `markers` match."""

        def mask(run: SourceRun, piece: str) -> str:
            hidden = re.sub(rf"[^\s{_WORD}]", _OTHER, re.sub(r"\w", _WORD, piece))
            matches = markers.finditer(piece) if markers and run.owner in self.assistants else ()
            for match in matches:
                hidden = hidden[: match.start()] + match[0] + hidden[match.end() :]
            return hidden

        return self._masked(mask)

    def _masked(self, mask: Callable[[SourceRun, str], str]) -> str:
        pieces = ((run, self.text[run.start : run.end]) for run in self.runs)
        return "".join(mask(run, piece) if run.is_text else piece for run, piece in pieces)


@dataclass(frozen=True)
class ResponseFrame:
    """What a template writes around a response: the generation prompt, the text without control tokens between it and
    the response, and the control tokens that end the turn.
    """

    generation_prompt: str = ""
    lead: str = ""
    ending: str = ""
    last_of_ending: str = ""


@dataclass(frozen=True)
class Turns:
    """Checked messages for a template, and which of them the loss counts."""

    messages: list[JsonObject]
    counted: list[bool]


def read_turns(messages: ChatMessages) -> Turns:
    """Messages as a template gets them. Roles must be in `ROLES`, because they reach it unchanged; the loss counts an
    assistant's messages, except those of weight 0.
    """
    given, counted = [], []
    rows = messages.messages if isinstance(messages, Conversation) else messages
    for number, message in enumerate(rows, 1):
        row = message if isinstance(message, Mapping) else message.to_row()
        where, role = f"message {number}", row.get("role")
        if role not in ROLES:
            raise UserError(f"{where}: unknown role {role!r}", f"roles are {', '.join(ROLES)}")
        plain = {
            key: _plain(value, f"{where}: {key}")
            for key, value in row.items()
            if key != "weight" and value is not None
        }
        _check_content(plain, where)
        reasoning = next((plain[key] for key in _REASONING if key in plain), None)
        if reasoning is not None:
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        given.append(plain)
        counted.append(role == "assistant" and row.get("weight") != 0)
    if not given:
        raise UserError("a conversation without messages", "give at least one message")
    return Turns(given, counted)


def _check_content(message: JsonObject, where: str) -> None:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    is_parts = bool(parts) and all(isinstance(p, dict) and isinstance(p.get("type"), str) for p in parts)
    is_left_out = "content" not in message and message["role"] == "assistant" and len(message) > 1
    if not (isinstance(content, str) or is_parts or is_left_out):
        kind = type(content).__name__
        raise UserError(
            f"{where}: content is {kind}, not text", "give a string, or a list of parts that have a type"
        )


def _plain(value: Any, where: str) -> Any:
    """JSON data without halves of surrogate pairs."""
    if isinstance(value, str):
        return fix_surrogates(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    raise UserError(f"{where} is {type(value).__name__}, not text", "give text, or data as JSON has it")


def render(
    tokenizer: Tokenizer,
    messages: Sequence[JsonObject],
    add_generation_prompt: bool,
    tools: Sequence[Any] | None = None,
) -> Rendered:
    """The text of a conversation; `UserError` without a template, and with the reason where it cannot be rendered."""
    template = tokenizer.template_for(tools)
    if template is None and tokenizer.named_templates:
        raise UserError(
            f"this model has several chat templates, {', '.join(sorted(tokenizer.named_templates))}, and none is the"
            " default",
            "copy the one for conversations to chat_template.jinja in the folder",
        )
    if template is None:
        raise UserError(
            "this model has no chat template, so it cannot be prompted with a conversation",
            "let it continue a text: parakit generate MODEL TEXT --prompting plain; or, if its publisher has a"
            " chat_template.jinja, put it into the folder",
        )
    plain_tools = None if tools is None else _plain(tools, "tools")
    context = _context(messages, plain_tools, add_generation_prompt, tokenizer.template_variables)
    assistants = {number for number, message in enumerate(messages) if message["role"] == "assistant"}
    try:
        return _rendered(_renderer(template)([context])[0], assistants)
    except TemplateError as error:
        raise UserError(
            f"the chat template cannot be used for this conversation: {error}",
            "change the conversation (some templates take no system prompt, or only turns that alternate), use another"
            " chat_template.jinja, or leave the template out with --prompting plain",
        ) from None


def _context(
    messages: Sequence[JsonObject],
    tools: Any,
    add_generation_prompt: bool,
    variables: Sequence[tuple[str, str]],
) -> JsonObject:
    """All variables of a template; there are no documents."""
    return {
        "messages": messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **dict(variables),
    }


@lru_cache(maxsize=8)
def _renderer(template: str) -> Callable[[Sequence[Mapping[str, Any]]], list[Rendering]]:
    """Parakit's template is rendered in this process, a third-party one in a child process that can be killed."""
    if template == CHAT_TEMPLATE:
        return lambda contexts: render_all(template, contexts)
    return TemplateWorker(template).render_all


def _rendered(rendering: Rendering, assistants: Collection[int] = ()) -> Rendered:
    owners, runs, start = rendering["owners"], [], 0
    for source, length, repeats in rendering["runs"]:
        owner = owners[source] if source >= 0 else None
        runs.append(SourceRun(start, start + length, source >= 0, source == -2, owner, repeats))
        start += length
    return Rendered(rendering["text"], runs, assistants)


def response_frame(tokenizer: Tokenizer) -> ResponseFrame:
    """What the tokenizer's template writes around a response; an empty frame without a template."""
    template = tokenizer.template_for(None)
    if template is None:
        return ResponseFrame()
    return _response_frame(template, tokenizer.template_variables, tokenizer.control_pattern)


@lru_cache(maxsize=8)
def _response_frame(
    template: str, variables: tuple[tuple[str, str], ...], control: re.Pattern[str] | None
) -> ResponseFrame:
    for wrap in (str, lambda text: [{"type": "text", "text": text}]):
        user, assistant = ({"role": role, "content": wrap("a")} for role in ("user", "assistant"))
        try:
            question, prompt, whole = map(
                _rendered,
                _renderer(template)(
                    [
                        _context([user], None, False, variables),
                        _context([user], None, True, variables),
                        _context([user, assistant], None, False, variables),
                    ]
                ),
            )
        except TemplateError:
            continue  # it wants parts; or compile_chat reports the error
        response = next((run for run in whole.runs if run.owner == 1), None)
        if response is not None:
            return _frame(question.text, prompt.text, whole, response, control)
    return ResponseFrame()


def _frame(
    question: str, prompt: str, whole: Rendered, response: SourceRun, control: re.Pattern[str] | None
) -> ResponseFrame:
    start = next((i for i, (a, b) in enumerate(zip(question, prompt, strict=False)) if a != b), len(question))
    lead = whole.text[len(prompt) : response.start] if whole.text.startswith(prompt) else ""
    if control is None:
        return ResponseFrame(prompt[start:], lead)
    inside = (match.start() for match in control.finditer(prompt) if match.start() < start < match.end())
    ends: list[re.Match[str]] = []
    for match in control.finditer(whole.own_text, response.end):
        if ends and match.start() > ends[-1].end():
            break
        ends.append(match)
    ending = whole.text[ends[0].start() : ends[-1].end()].strip() if ends else ""
    last = next(filter(None, ends[-1].groups())) if ends else ""
    lead = "" if control.search(lead) else lead
    return ResponseFrame(prompt[next(inside, start) :], lead, ending, last)
