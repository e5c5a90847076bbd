"""The files of judging: prompts, answers, and the votes of people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.conversations.messages import Message, parse_messages
from parakit.data.readers.rows import read_records
from parakit.evaluation.judging.prompts import GRADES
from parakit.evaluation.results import digest

_PROMPT_HINT = 'a row is {"prompt": "Why is the sky blue?"}, with "id" and "reference" if you like'
_ANSWER_HINT = (
    'a row is {"prompt": "Why is the sky blue?", "answer": "Because ..."}, or has the "id" of a prompt'
)
_VOTE_HINT = 'a row is {"id": "1", "model_a": "one", "model_b": "other", "winner": "model_a"}'
_GRADE_HINT = 'a row is {"id": "1", "model": "one", "grade": 4}'


@dataclass(frozen=True)
class Question:
    """A prompt for the models; `reference` is an answer known to be right."""

    id: str
    messages: tuple[Message, ...]
    reference: str | None = None

    @property
    def text(self) -> str:
        """As the judge sees it: the user's words, or all turns with their roles."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n".join(f"{message.role}: {message.content}" for message in self.messages)


AnswerRows = dict[str, tuple[Question | None, str]]
"""A model's answers by the id of their prompt, with the prompt where the file has it."""


@dataclass(frozen=True)
class Vote:
    """A person's choice between two models: 1 for the first, 0 for the second, 0.5 for a tie."""

    prompt_id: str
    first: str
    second: str
    outcome: float


@dataclass(frozen=True)
class GradeVote:
    """A person's grade of a model's answer, 1 to 5."""

    prompt_id: str
    model: str
    grade: float


def read_questions(path: str | Path) -> list[Question]:
    """The prompts of a file of JSON lines, JSON or Parquet. `UserError` for a row that is none, an id that comes twice, and
    a file without rows.
    """
    questions = [_question(row, where) for where, row in _objects(path, _PROMPT_HINT)]
    _require_rows(path, questions, "prompts", _PROMPT_HINT)
    _require_unique(path, [one.id for one in questions], "prompt")
    return questions


def read_answers(path: str | Path) -> AnswerRows:
    """By the id of its prompt: the prompt, if the row has one, and the answer."""
    found: AnswerRows = {}
    ids = []
    for where, row in _objects(path, _ANSWER_HINT):
        question = _question(row, where) if "prompt" in row or "messages" in row else None
        prompt_id = question.id if question else _text(row, "id", where, _ANSWER_HINT)
        found[prompt_id] = (question, _text(row, "answer", where, _ANSWER_HINT))
        ids.append(prompt_id)
    _require_rows(path, ids, "answers", _ANSWER_HINT)
    _require_unique(path, ids, "answer to a prompt")
    return found


def read_votes(path: str | Path, models: Sequence[str]) -> list[Vote]:
    """Votes on pairs of `models`, in the form of Chatbot Arena's: `model_a`, `model_b`, and `winner`, which is `model_a`,
    `model_b`, `tie`, or a model's name. `UserError` for a vote on another model.
    """
    votes = []
    for where, row in _objects(path, _VOTE_HINT):
        first, second = (_model(row, key, where, models, _VOTE_HINT) for key in ("model_a", "model_b"))
        winner = _text(row, "winner", where, _VOTE_HINT)
        outcomes = {"model_a": 1.0, "model_b": 0.0, first: 1.0, second: 0.0}
        if winner not in outcomes and not winner.startswith("tie"):
            raise UserError(f"{where}: the winner is {winner!r}", "it is model_a, model_b or tie")
        votes.append(Vote(_id(row, where, _VOTE_HINT), first, second, outcomes.get(winner, 0.5)))
    _require_rows(path, votes, "votes", _VOTE_HINT)
    return votes


def read_grade_votes(path: str | Path, models: Sequence[str]) -> list[GradeVote]:
    """People's grades of answers of `models`. `UserError` for a grade outside 1 to 5, or of another model."""
    votes = []
    for where, row in _objects(path, _GRADE_HINT):
        grade = row.get("grade")
        is_number = isinstance(grade, int | float) and not isinstance(grade, bool)
        if grade is None or not is_number or not int(GRADES[0]) <= grade <= int(GRADES[-1]):
            raise UserError(f"{where}: the grade is {grade!r}, not a number from 1 to 5", _GRADE_HINT)
        model = _model(row, "model", where, models, _GRADE_HINT)
        votes.append(GradeVote(_id(row, where, _GRADE_HINT), model, float(grade)))
    _require_rows(path, votes, "votes", _GRADE_HINT)
    return votes


def require_known_prompts(path: str | Path, votes: Iterable[Vote | GradeVote], ids: Iterable[str]) -> None:
    """`UserError` where no vote is about any of the prompts."""
    known = set(ids)
    if not any(vote.prompt_id in known for vote in votes):
        raise UserError(
            f"{path}: no vote is about any of these {len(known)} prompts",
            'give prompts and votes the same "id"',
        )


def _objects(path: str | Path, hint: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in read_records(path):
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: is not an object", hint)
        yield where, row


def _question(row: Mapping[str, Any], where: str) -> Question:
    if ("prompt" in row) == ("messages" in row):
        raise UserError(f"{where}: needs either `prompt` or `messages`", _PROMPT_HINT)
    if "prompt" in row:
        messages: tuple[Message, ...] = (Message("user", _text(row, "prompt", where, _PROMPT_HINT)),)
    else:
        turns = row["messages"]
        if not isinstance(turns, list) or not turns:
            raise UserError(f"{where}: `messages` is not a list of roles and contents", _PROMPT_HINT)
        messages = parse_messages(turns, where)
        if messages[-1].role != "user":
            raise UserError(f"{where}: `messages` must end with a user's turn", _PROMPT_HINT)
    reference = row.get("reference")
    if reference is not None:
        reference = _text(row, "reference", where, _PROMPT_HINT)
    own = digest(f"{message.role}\n{message.content}" for message in messages)[:12]
    return Question(_id(row, where, _PROMPT_HINT) if "id" in row else own, messages, reference)


def _id(row: Mapping[str, Any], where: str, hint: str) -> str:
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{where}: the id is {value!r}, not a text or a number", hint)
    return str(value)


def _text(row: Mapping[str, Any], key: str, where: str, hint: str) -> str:
    if key == "id":
        return _id(row, where, hint)
    value = row.get(key)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text", hint)
    if not value.strip() and key != "answer":  # a model may answer nothing
        raise UserError(f"{where}: {key!r} is empty", hint)
    return value


def _model(row: Mapping[str, Any], key: str, where: str, models: Sequence[str], hint: str) -> str:
    name = _text(row, key, where, hint)
    if name not in models:
        close = closest_match(name, models)
        raise UserError(
            f"{where}: a vote on {name!r}, which is none of the models ({', '.join(models)})",
            f"did you mean {close!r}?" if close else "votes name the models as the table does",
        )
    return name


def _require_rows(path: str | Path, rows: Sequence[object], what: str, hint: str) -> None:
    if not rows:
        raise UserError(f"{path}: no {what}", hint)


def _require_unique(path: str | Path, ids: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise UserError(
                f"{path}: the {what} {one!r} comes twice", "remove one, or give each its own `id`"
            )
        seen.add(one)
