"""The row format of each task, and the checks of a row.

    classify     {"text": "...", "text_pair": "..." (optional), "label": "..."}
    multi_label  {"text": "...", "text_pair": "..." (optional), "labels": ["...", ...]}
    tag          {"words": ["...", ...], "tags": ["...", ...]}
    regress      {"text": "...", "text_pair": "..." (optional), "score": 0.5}
    translate    {"source": "...", "target": "..."}
    embed        {"text": "...", "positive": "...", "negatives": ["...", ...] (optional)}
    answer       {"question": "...", "context": "...", "answers": ["...", ...], "answer_start": 7 (optional)}

The negatives of `embed` are texts that look like the positive one and do not belong to the text. The labels of `multi_label`
may be none. The answers of `answer` are passages of the context, of which the first is
learned, at character `answer_start` or where it first occurs; none where the context does not say. SQuAD's own form of
`answers`, {"text": [...], "answer_start": [...]}, is read too. A checked row has these keys in this order and no other;
further keys of a row (an id, a source) are counted, or refused where they bear text (`data.readers.tracked_row`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.readers.tracked_row import as_row

ExampleRow = JsonObject  # a checked row, as above


@dataclass(frozen=True)
class TaskFormat:
    """The keys of a task's rows. The inputs decide the split, and which rows contradict each other."""

    name: str
    inputs: tuple[str, ...]
    answer: str
    sample_row: str
    optional: tuple[str, ...] = ()
    further: tuple[str, ...] = ()  # keys that belong to the answer
    one_answer: bool = True  # two answers to the same input contradict each other

    @property
    def input_keys(self) -> tuple[str, ...]:
        """The keys of the input, without the answer."""
        return (*self.inputs, *self.optional)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of a row, in order."""
        return (*self.input_keys, self.answer, *self.further)


TASK_FORMATS = {
    task.name: task
    for task in (
        TaskFormat(
            "classify",
            ("text",),
            "label",
            '{"text": "Not bad at all.", "label": "positive"}',
            optional=("text_pair",),
        ),
        TaskFormat(
            "multi_label",
            ("text",),
            "labels",
            '{"text": "Sun, then snow.", "labels": ["sun", "snow"]}',
            optional=("text_pair",),
        ),
        TaskFormat("tag", ("words",), "tags", '{"words": ["Anna", "sings"], "tags": ["name", "other"]}'),
        TaskFormat(
            "regress", ("text",), "score", '{"text": "Not bad.", "score": 0.7}', optional=("text_pair",)
        ),
        TaskFormat(
            "translate", ("source",), "target", '{"source": "Hello.", "target": "Bonjour."}', one_answer=False
        ),
        TaskFormat(
            "embed",
            ("text",),
            "positive",
            '{"text": "Where does Anna live?", "positive": "Anna lives in Norwick."}',
            further=("negatives",),
            one_answer=False,
        ),
        TaskFormat(
            "answer",
            ("question", "context"),
            "answers",
            '{"question": "Where does Anna live?", "context": "Anna lives in Norwick.", "answers": ["Norwick"]}',
            further=("answer_start",),
        ),
    )
}


def get_task_format(name: str) -> TaskFormat:
    """The format of the task of that name; `UserError` names the closest."""
    if name not in TASK_FORMATS:
        close = closest_match(name, TASK_FORMATS)
        known = f"tasks with examples are {', '.join(TASK_FORMATS)}"
        raise UserError(f"no task is called {name!r}", f"did you mean {close!r}?" if close else known)
    return TASK_FORMATS[name]


def check_row(task: TaskFormat, row: object, where: str) -> ExampleRow:
    """The row with the task's keys alone; `UserError` opening with `where` for an invalid one."""
    hint = f"a row looks like {task.sample_row}"
    row = as_row(row, where, hint)
    values = {key: row.get(key) for key in task.keys}
    if isinstance(answers := values.get("answers"), Mapping):
        values |= _from_squad(answers, where)
    for key in (*task.inputs, task.answer):
        if values[key] is None:
            keys = ", ".join(map(repr, row)) or "none"
            problem = f"{key!r} is null" if key in row else f"no {key!r}; its keys are {keys:.300}"
            raise UserError(f"{where}: {problem}", hint)
    result = {
        key: _CHECKS.get(key, _text)(value, key, where) for key, value in values.items() if value is not None
    }
    if task.name == "tag" and len(result["words"]) != len(result["tags"]):
        n_words, n_tags = len(result["words"]), len(result["tags"])
        raise UserError(f"{where}: {n_words} words and {n_tags} tags", "give every word one tag")
    if result.get("positive") in result.get("negatives", ()):
        number = result["negatives"].index(result["positive"])
        raise UserError(f"{where}: 'negatives[{number}]' is the positive text", "leave it out")
    return _with_answer_start(result, where) if task.name == "answer" else result


def _from_squad(answers: Mapping[str, Any], where: str) -> JsonObject:
    """Answers as SQuAD has them, a mapping of texts and positions, as those of a row."""
    texts, starts = answers.get("text"), answers.get("answer_start", [])
    if not isinstance(texts, list) or not isinstance(starts, list):
        raise UserError(f"{where}: 'answers' is {_shown(answers)}", "it has lists: text and answer_start")
    return {"answers": texts, "answer_start": starts[0] if starts else None}


def _with_answer_start(row: ExampleRow, where: str) -> ExampleRow:
    """The row, with the place of its first answer in the context, which must be there."""
    if not row["answers"]:
        return {key: value for key, value in row.items() if key != "answer_start"}
    first, context = row["answers"][0], row["context"]
    start = row.get("answer_start", context.find(first))
    if start < 0 or context[start : start + len(first)] != first:
        given = f"at character {start} " if "answer_start" in row else ""
        raise UserError(
            f"{where}: the context does not hold the answer {_shown(first)} {given}".rstrip(),
            "an answer is copied from its context, letter for letter; [] where the context does not say",
        )
    return row | {"answer_start": start}


def row_labels(row: ExampleRow) -> tuple[str, ...]:
    """The label, the labels or the tags of a row; none for tasks without."""
    return (row["label"],) if "label" in row else tuple(row.get("labels") or row.get("tags") or ())


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {_shown(value)}, not text", "write it in quotation marks")
    if not value.strip():
        raise UserError(f"{where}: {key!r} is empty", "fill it in, or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: {key!r} holds half of a surrogate pair", "write the character itself, or both halves"
        ) from None
    return value


def _list(value: object, key: str, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else _shown(value)
        raise UserError(f"{where}: {key!r} is {what}, not a list of texts", "write them as a list")
    return [_text(item, f"{key}[{number}]", where) for number, item in enumerate(value)]


def _set(value: object, key: str, where: str) -> list[str]:
    """Texts of which there may be none, each once."""
    return list(dict.fromkeys(_list(value, key, where))) if value != [] else []


def _position(value: object, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(
            f"{where}: {key!r} is {_shown(value)}, not an integer", "leave it out, or count characters"
        )
    return value


def _score(value: object, key: str, where: str) -> float:
    hint = "give a number such as 0.5, or remove the row"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {key!r} is {_shown(value)}, not a number", hint)
    if not math.isfinite(value) or abs(value) > 1e30:
        raise UserError(f"{where}: {key!r} is {value}, and a score must be finite", hint)
    return float(value)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_CHECKS: dict[str, Callable[[object, str, str], Any]] = {
    **{"words": _list, "tags": _list, "score": _score, "negatives": _list},
    **{"labels": _set, "answers": _set, "answer_start": _position},
}
