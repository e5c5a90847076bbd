"""One row, which remembers the keys that were read, so that none vanishes: `close` refuses an unread key that bears text
or images, and returns the names of the others, for the report to count.

The rule is the same for conversations, prompts, preferences and examples. An empty value is nothing to lose. A text that
the row's read part holds already, such as a `prompt` that is also the first message, is a copy, and is only counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.data.documents import repair

_MEDIA = ["image", "images", "image_url", "images_url", "audio", "audios", "input_audio", "video", "videos"]
_TEXTS = {
    **dict.fromkeys(("system", "system_prompt", "system_message"), "a system prompt"),
    **dict.fromkeys(("tools", "functions"), "functions that the assistant may call"),
    **dict.fromkeys(("tool_calls", "function_call"), "calls of functions"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "reasoning"),
    **dict.fromkeys(("input", "context", "history", "documents"), "a part of the prompt"),
    "refusal": "an answer",
    "text_pair": "a second text",
    "chat_template_kwargs": "settings of the chat template",
}
MAX_NAME = 60
COPY_CHARS = 20


class TrackedRow(Mapping[str, Any]):
    """The values of a row (or of an object inside it, by `part`), read by key; `where` opens messages about it."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = values
        self._read: set[str] = set()
        self._parts: list[tuple[str, TrackedRow]] = [
            ("", self)
        ]  # shared by the row and all objects inside it

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict; Mapping's own costs an exception for each key that is missing."""
        self._read.add(key)
        return self._values.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def part(self, values: Mapping[str, Any], where: str, name: str) -> TrackedRow:
        """An object inside the row, whose unread keys are reported as `name.key`."""
        part = TrackedRow(values, where)
        part._parts = self._parts
        self._parts.append((name, part))
        return part

    def peek(self, key: str) -> Any:
        """The value of `key`, or None, without counting it as read."""
        return self._values.get(key)

    def is_set(self, key: str) -> bool:
        """Whether the row has a value for `key` that is not empty; this does not count as reading it."""
        return not is_empty(self._values.get(key))

    def close(self) -> list[str]:
        """The names of the keys that nothing read, each once. `UserError` for one whose loss would change what is
        learned.
        """
        names: dict[str, None] = {}
        texts: list[str] | None = None
        for prefix, part in self._parts:
            for key in part._values:
                if key in part._read or not part.is_set(key):
                    continue
                value = part._values[key]
                if key in _MEDIA or key in _TEXTS:
                    texts = self._read_texts() if texts is None else texts
                    if not (isinstance(value, str) and _is_copy(value.strip(), texts)):
                        raise _unread_error(part.where, key)
                name = key_name(key)
                names[f"{prefix}.{name}" if prefix else name] = None
        return list(names)

    def _read_texts(self) -> list[str]:
        """Every text that was read: values of keys, and the items of lists of texts."""
        read = [part._values[key] for _, part in self._parts for key in part._read if key in part._values]
        read += [item for value in read if isinstance(value, list) for item in value]
        return [value for value in read if isinstance(value, str)]


def as_row(row: object, where: str, hint: str) -> TrackedRow:
    """`row` as a `TrackedRow`; `UserError` where it is no object."""
    if isinstance(row, TrackedRow):
        return row
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a {type(row).__name__}, not an object with keys", hint)
    return TrackedRow(row, where)


def is_empty(value: object) -> bool:
    """Whether a value holds nothing that could be lost."""
    return value is None or value == [] or value == {} or (isinstance(value, str) and not value.strip())


def key_name(key: str) -> str:
    """A key as a report names it: valid Unicode, and not too long."""
    name = repair(key)[0]
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _is_copy(text: str, texts: list[str]) -> bool:
    """Whether one of `texts` is the same; or holds it, where it is long enough not to be there by chance."""
    return any(text == other.strip() or (len(text) >= COPY_CHARS and text in other) for other in texts)


def _unread_error(where: str, key: str) -> UserError:
    if key in _MEDIA:
        return UserError(f"{where}: has {key!r}, and Parakit reads text only", "remove the key, or the row")
    return UserError(
        f"{where}: {key!r} ({_TEXTS[key]}) is not read in a row of this format, and would be lost",
        "move it into a text that is read (see the table of row formats in docs/rows.md), or remove the key",
    )
