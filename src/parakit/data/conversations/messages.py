"""Messages, and their reading from JSON objects: {"role": "user", "content": "..."}, in the dialects of OpenAI, Hugging
Face and ShareGPT ({"from": "human", "value": "..."}).

A content may be a list of parts of type `text`. An assistant's turn may have `tool_calls` (OpenAI's, or bare {"name",
"arguments"}), OpenAI's former `function_call`, and `reasoning_content`; a tool's turn `name` and `tool_call_id`. Arguments
that are JSON text become an object, as chat templates expect. What else a message has is refused where it bears text or
images, and counted otherwise (`data.readers.tracked_row`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.readers.arrays import loads
from parakit.data.readers.tracked_row import TrackedRow, is_empty

ROLES = ("system", "user", "assistant", "tool")
_HINT = 'a message looks like {"role": "user", "content": "Hello"}'
_CALL_HINT = (
    'a call looks like {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}}'
)
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_CALL_ROLES = ("function_call", "tool_call")  # a turn of ShareGPT whose text is the call
_ROLE_NAMES = {
    **{role: role for role in ROLES},
    **dict.fromkeys(("human",), "user"),
    **dict.fromkeys(("gpt", "chatgpt", *_CALL_ROLES), "assistant"),
    **dict.fromkeys(("developer",), "system"),
    **dict.fromkeys(("function", "observation", "function_response", "tool_response"), "tool"),
}
_KEYS = ("role", "content", "from", "value", "weight", "tool_calls", "name", "tool_call_id", *_REASONING)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function that an assistant's turn makes. `arguments` is a JSON object as text, in the order of its
    keys; `id` names the call for the turn of role `tool` that answers it (`Message.tool_call_id`).
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    def to_row(self) -> JsonObject:
        """OpenAI's object, with the arguments as an object, as chat templates expect them; text that is no JSON, which a model
        may write, as {"invalid": text}.
        """
        try:
            arguments = json.loads(self.arguments)
        except ValueError:
            arguments = {"invalid": self.arguments}
        function = {"name": self.name, "arguments": arguments}
        call: JsonObject = {"type": "function", "function": function}
        return call if self.id is None else {"id": self.id} | call


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: the role (`system`, `user`, `assistant` or `tool`) and the text, "" where the row has null. An
    assistant's turn of `weight` 0 is context: the loss leaves it out.

    An assistant's turn may have `tool_calls`, and `reasoning_content`, what it thought before `content`; a `<think>`
    block inside a content stays there as the row has it. A turn of role `tool` may name the function (`name`) and the
    call that it answers.
    """

    role: str
    content: str
    weight: int = 1
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None

    def to_row(self) -> JsonObject:
        """The JSON object, which is also what a chat template gets but for the weight; keys without a value are left
        out, as is a weight of 1.
        """
        row: JsonObject = {"role": self.role, "content": self.content}
        for key in ("reasoning_content", "name", "tool_call_id"):
            if (value := getattr(self, key)) is not None:
                row[key] = value
        if self.tool_calls:
            row["tool_calls"] = [call.to_row() for call in self.tool_calls]
        return row if self.weight else row | {"weight": 0}


def parse_messages(
    messages: Sequence[object], where: str, row: TrackedRow | None = None
) -> tuple[Message, ...]:
    """Messages from JSON objects; `UserError` opening with `where` names an invalid one. Keys that are not read are
    reported by the `row` that holds the messages.
    """
    row = TrackedRow({}, where) if row is None else row
    return tuple(_message(m, f"{where}, message {k}", row) for k, m in enumerate(messages, 1))


def is_assistant(message: object) -> bool:
    """Whether an unchecked message is an assistant's turn."""
    speaker = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
    return isinstance(speaker, str) and _ROLE_NAMES.get(speaker) == "assistant"


def parse_objects(value: object, where: str, what: str) -> list[object]:
    """A list that may be written as JSON text, as its items may be; [] for an empty value."""
    value = [] if is_empty(value) else _from_json(value, where, what)
    if not isinstance(value, list):
        raise UserError(
            f"{where}: {what} is {type(value).__name__}, not a list", "write it as a list: [{...}]"
        )
    return [_from_json(item, where, what) if isinstance(item, str) else item for item in value]


def check_unicode(text: str, where: str, what: str = "content") -> str:
    """`text`; `UserError` where UTF-8 cannot write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: {what} holds half of a surrogate pair", "write the character itself, or both halves"
        ) from None
    return text


def to_json_text(value: object, where: str, what: str) -> str:
    """`value` as JSON text that UTF-8 can write."""
    return check_unicode(json.dumps(value, ensure_ascii=False, default=str), where, what)


def _message(value: object, where: str, row: TrackedRow) -> Message:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: not an object with a role and a content", _HINT)
    message = row.part(value, where, "messages[]")
    is_sharegpt = "role" not in message and "from" in message
    if not is_sharegpt and "role" not in message:
        raise UserError(f"{where}: not an object with a role and a content", _HINT)
    speaker = message.get("from" if is_sharegpt else "role")
    role = _role(speaker, where)
    for key in message:
        near = _misspelled(key) if key not in _KEYS else None
        if near is not None and near not in message and message.is_set(key):
            raise UserError(f"{where}: {key!r} is not understood", f"did you mean {near!r}?")
    content = message.get("value" if is_sharegpt else "content")
    calls: tuple[ToolCall, ...] = ()
    reasoning = None
    if role == "assistant":
        reasoning = next((message[key] for key in _REASONING if message.is_set(key)), None)
        calls = _tool_calls(message, where)
        if speaker in _CALL_ROLES:
            written = _from_json(content, where, "the call")
            items = written if isinstance(written, list) else [written]
            calls, content = tuple(_tool_call(item, where, message) for item in items), None
    return Message(
        role,
        _content(content, where, message, may_be_null=bool(calls)),
        _weight(message, role, where),
        _optional_text(reasoning, where, "the reasoning"),
        calls,
        _optional_text(message.get("name"), where, "'name'"),
        _optional_text(message.get("tool_call_id"), where, "'tool_call_id'") if role == "tool" else None,
    )


@lru_cache(maxsize=256)
def _misspelled(key: str) -> str | None:
    """The key that was probably meant."""
    return next(iter(difflib.get_close_matches(key, _KEYS, 1, 0.8)), None)


def _role(speaker: object, where: str) -> str:
    if isinstance(speaker, str) and speaker in _ROLE_NAMES:
        return _ROLE_NAMES[speaker]
    near = closest_match(speaker, _ROLE_NAMES) if isinstance(speaker, str) else None
    raise UserError(
        f"{where}: unknown role {speaker!r:.80}",
        f"did you mean {near!r}?" if near else f"roles are {', '.join(ROLES)}",
    )


def _content(content: object, where: str, message: TrackedRow, may_be_null: bool) -> str:
    if content is None and may_be_null:
        return ""
    if isinstance(content, list):
        content = "".join(_part(part, f"{where}, part {k}", message) for k, part in enumerate(content, 1))
    if not isinstance(content, str):
        found = "null or not there" if content is None else f"{type(content).__name__}, not text"
        raise UserError(
            f"{where}: content is {found}", "write it as text, or as a list of parts of type text"
        )
    return check_unicode(content, where)


def _part(value: object, where: str, message: TrackedRow) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        part = message.part(value, where, "content[]")
        kind = part.get("type", "text")
        if kind in _TEXT_PARTS and isinstance(text := part.get("text"), str):
            return text
        if kind not in _TEXT_PARTS:
            raise UserError(
                f"{where}: is of type {kind!r:.60}, and Parakit reads text only", "remove it, or the row"
            )
    raise UserError(f"{where}: not a part with a text", 'a part looks like {"type": "text", "text": "Hello"}')


def _tool_calls(message: TrackedRow, where: str) -> tuple[ToolCall, ...]:
    calls = parse_objects(message.get("tool_calls"), where, "'tool_calls'")
    if message.is_set("function_call"):
        calls = [*calls, message["function_call"]]
    return tuple(_tool_call(call, where, message) for call in calls)


def _tool_call(value: object, where: str, message: TrackedRow) -> ToolCall:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: a call of a function is {type(value).__name__}, not an object", _CALL_HINT)
    call = message.part(value, where, "tool_calls[]")
    kind, identity = call.get("type", "function"), call.get("id")
    function: TrackedRow = call
    if isinstance(call.get("function"), Mapping):
        function = message.part(call["function"], where, "tool_calls[].function")
    name, arguments = function.get("name"), function.get("arguments")
    if kind != "function" or not isinstance(name, str) or not name:
        raise UserError(f"{where}: a call without the name of a function", _CALL_HINT)
    if isinstance(arguments, str):
        arguments = (
            _from_json(arguments, where, f"the arguments of {name!r:.60}") if arguments.strip() else {}
        )
    if not isinstance(arguments, Mapping | None):
        what = type(arguments).__name__
        raise UserError(f"{where}: the arguments of {name!r:.60} are {what}, not an object", _CALL_HINT)
    written = to_json_text(arguments or {}, where, "the arguments")
    return ToolCall(check_unicode(name, where, "a name"), written, _optional_text(identity, where, "'id'"))


def _from_json(text: object, where: str, what: str) -> object:
    try:
        return loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {what} is text that is not JSON ({error})", _CALL_HINT) from None


def _optional_text(value: object, where: str, what: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise UserError(f"{where}: {what} is {type(value).__name__}, not text", "write it in quotation marks")
    return check_unicode(value, where, what)


def _weight(message: TrackedRow, role: str, where: str) -> int:
    weight = message.get("weight")
    if weight is None:
        return 1
    if role != "assistant" or isinstance(weight, bool) or weight not in (0, 1):
        raise UserError(
            f"{where}: weight {weight!r} of a turn of {role!r}",
            "an assistant's turn may have weight 0 (context) or 1; no other turn has one",
        )
    return int(weight)
