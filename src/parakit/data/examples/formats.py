"""What a row of each task looks like, and what is wrong with one that does not.

    classify   {"text": "...", "text_pair": "..." (optional), "label": "..."}
    tag        {"words": ["...", ...], "tags": ["...", ...]}
    regress    {"text": "...", "text_pair": "..." (optional), "score": 0.5}
    translate  {"source": "...", "target": "..."}
    embed      {"text": "...", "positive": "..."}

A checked row has these keys in this order and no other: what else a row holds (an id, a source) is left behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import closest_match

Row = dict[str, Any]  # a checked row, as above


@dataclass(frozen=True)
class Task:
    """The keys of a task's rows. `inputs` decide the split and what is a duplicate with another answer."""

    name: str
    inputs: tuple[str, ...]
    answer: str
    sample: str
    optional: tuple[str, ...] = ()
    one_answer: bool = True  # two answers to the same input contradict each other

    @property
    def question_keys(self) -> tuple[str, ...]:
        """What is asked, without the answer."""
        return (*self.inputs, *self.optional)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of a row, in order."""
        return (*self.question_keys, self.answer)


TASKS = {
    task.name: task
    for task in (
        Task(
            "classify",
            ("text",),
            "label",
            '{"text": "Not bad at all.", "label": "positive"}',
            optional=("text_pair",),
        ),
        Task("tag", ("words",), "tags", '{"words": ["Anna", "sings"], "tags": ["name", "other"]}'),
        Task("regress", ("text",), "score", '{"text": "Not bad.", "score": 0.7}', optional=("text_pair",)),
        Task(
            "translate", ("source",), "target", '{"source": "Hello.", "target": "Bonjour."}', one_answer=False
        ),
        Task(
            "embed",
            ("text",),
            "positive",
            '{"text": "Where does Anna live?", "positive": "Anna lives in Norwick."}',
            one_answer=False,
        ),
    )
}


def get_task_format(name: str) -> Task:
    """The task of that name; `UserError` names the nearest."""
    if name not in TASKS:
        close = closest_match(name, TASKS)
        known = f"tasks with examples are {', '.join(TASKS)}"
        raise UserError(f"no task is called {name!r}", f"did you mean {close!r}?" if close else known)
    return TASKS[name]


def check_row(task: Task, row: object, where: str) -> Row:
    """The row with the task's keys alone; `UserError` opening with `where` says what is wrong with it."""
    hint = f"a row looks like {task.sample}"
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a {type(row).__name__}, not an object with keys", hint)
    for key in (*task.inputs, task.answer):
        if row.get(key) is None:
            found = ", ".join(map(repr, row)) or "none"
            problem = f"{key!r} is null" if key in row else f"no {key!r}; its keys are {found}"
            raise UserError(f"{where}: {problem}", hint)
    result = {}
    for key in task.keys:
        if row.get(key) is not None:
            result[key] = _CHECKS.get(key, _text)(row[key], key, where)
    if task.name == "tag" and len(result["words"]) != len(result["tags"]):
        n_words, n_tags = len(result["words"]), len(result["tags"])
        raise UserError(f"{where}: {n_words} words and {n_tags} tags", "give every word one tag")
    return result


def row_labels(row: Row) -> tuple[str, ...]:
    """The label or the tags of a row; none for tasks without."""
    return (row["label"],) if "label" in row else tuple(row.get("tags", ()))


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {_told(value)}, not text", "write it in quotation marks")
    if not value.strip():
        raise UserError(f"{where}: {key!r} is empty", "fill it in, or take the row out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: {key!r} holds half of a surrogate pair", "write the character itself, or both halves"
        ) from None
    return value


def _list(value: object, key: str, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else _told(value)
        raise UserError(f"{where}: {key!r} is {what}, not a list of texts", "write them as a list")
    return [_text(item, f"{key}[{number}]", where) for number, item in enumerate(value)]


def _score(value: object, key: str, where: str) -> float:
    hint = "give a number such as 0.5, or take the row out"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {key!r} is {_told(value)}, not a number", hint)
    if not math.isfinite(value) or abs(value) > 1e30:
        raise UserError(f"{where}: {key!r} is {value}, and a score must be finite", hint)
    return float(value)


def _told(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_CHECKS: dict[str, Callable[[object, str, str], Any]] = {"words": _list, "tags": _list, "score": _score}
