"""Scores of answers: words, numbers, a checker in the sandbox, or a judge's grades. All are from 0 to 1."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parakit.assistants.prompts.items import PromptItem
from parakit.common.errors import UserError
from parakit.data.conversations.messages import Message
from parakit.evaluation.judging.agreement import expected_grade
from parakit.evaluation.judging.config import JudgeConfig
from parakit.evaluation.judging.inputs import Question
from parakit.evaluation.judging.judges import GradedAnswer
from parakit.evaluation.judging.prompts import GRADES
from parakit.evaluation.metrics.answers import exact, f1, words
from parakit.sandbox import Limits, SandboxError, run_python
from parakit.stages.judging.running import open_judge
from parakit.stages.prompts.config import ScoreConfig

ItemAnswers = Sequence[tuple[PromptItem, str | None]]
"""Items with their answers; None scores 0."""
Scorer = Callable[[ItemAnswers], list[float]]
CHECKED_AT_ONCE = 200
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_DRIVER = """

import json as _json, sys as _sys
_rows = _json.load(_sys.stdin)
_scores = [float(check(_row["answer"], _row["item"])) for _row in _rows]
print("\\n" + _json.dumps(_scores))
"""
_SHAPE = "def check(answer, item): return answer == item['answer']"


def make_scorer(config: ScoreConfig, items: Sequence[PromptItem], device: str = "cpu") -> Scorer:
    """What scores the answers of `items`. `UserError` for settings that lack something, and items without right answers."""
    for name in ("checker", "judge"):
        given = getattr(config, name)
        if given is not None and config.metric != name:
            raise UserError(
                f"{name} = {given} has no effect: the metric is {config.metric}", f"set metric: {name}"
            )
        if given is None and config.metric == name:
            raise UserError(f"the metric {name} needs a {name}", f"name it with --{name}")
    if config.metric == "checker":
        assert config.checker is not None
        return _checker(config.checker)
    if config.metric == "judge":
        assert config.judge is not None
        return _judge(config.judge, config.criterion, device)
    if missing := [item.id for item in items if not item.answers]:
        raise UserError(
            f"{len(missing)} of {len(items)} items have no {config.answer_field!r}, the first is {missing[0]}",
            f"add the column, name another with --answer-field, or score with --metric checker or judge instead of"
            f" {config.metric}",
        )
    score = _BY_ANSWERS[config.metric]
    return lambda answered: [
        0.0 if answer is None else float(score(answer, item.answers)) for item, answer in answered
    ]


def last_number(text: str) -> float | None:
    """The last number of a text: 1200.5 of "that makes 1,200.50 euros."."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _same_number(answer: str, right: Sequence[str]) -> bool:
    found = last_number(answer)
    return found is not None and found in {last_number(one) for one in right}


def _contains(answer: str, right: Sequence[str]) -> bool:
    """Whether the words of a right answer occur in a row."""
    text = f" {' '.join(words(answer))} "
    return any(f" {' '.join(words(one))} " in text for one in right if words(one))


_BY_ANSWERS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "exact": exact,
    "f1": f1,
    "number": _same_number,
    "contains": _contains,
}


def _checker(path: str) -> Scorer:
    """A user's program, run confined: answers are a model's text, and it may run them."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such checker", f"write a Python file with {_SHAPE}")
    code = file.read_text(encoding="utf-8")

    def score(answered: ItemAnswers) -> list[float]:
        rows = [
            {
                "answer": answer,
                "item": {
                    **item.fields,
                    "answer": item.answers[0] if item.answers else "",
                    "answers": list(item.answers),
                },
            }
            for item, answer in answered
            if answer is not None
        ]
        found: list[float] = []
        for start in range(0, len(rows), CHECKED_AT_ONCE):
            found += _run_checker(path, code, rows[start : start + CHECKED_AT_ONCE])
        scores = iter(found)
        return [0.0 if answer is None else next(scores) for _, answer in answered]

    return score


def _run_checker(path: str, code: str, rows: Sequence[Mapping[str, object]]) -> list[float]:
    limits = Limits(cpu_seconds=20, wall_seconds=60.0, output_bytes=1 << 20)
    try:
        run = run_python(code + _DRIVER, json.dumps(rows), limits)
    except SandboxError as error:
        raise UserError(f"{path}: {error.message}", error.hint) from None
    if run.status != 0 or run.limit is not None:
        lines = run.stderr.strip().splitlines()
        why = f"{run.limit} limit exceeded" if run.limit else lines[-1] if lines else f"status {run.status}"
        raise UserError(f"{path}: the checker failed on one of {len(rows)} answers: {why}", f"it is {_SHAPE}")
    scores = json.loads(run.stdout.strip().splitlines()[-1])
    if bad := [score for score in scores if not 0 <= score <= 1]:
        raise UserError(
            f"{path}: the checker returned {bad[0]}", "return True, False, or a score from 0 to 1"
        )
    return [float(score) for score in scores]


def _judge(location: str, criterion: str, device: str) -> Scorer:
    judge = open_judge(location, JudgeConfig(kind="graded", criterion=criterion), device)

    def score(answered: ItemAnswers) -> list[float]:
        graded = [GradedAnswer(question_of(item), answer) for item, answer in answered if answer is not None]
        found = iter(judge.grade(graded))
        scores = [None if answer is None else next(found) for _, answer in answered]
        return [_share(one) for one in scores]

    return score


def question_of(item: PromptItem) -> Question:
    """An item as a judge reads it, with its first right answer."""
    return Question(item.id, (Message("user", item.text),), item.answers[0] if item.answers else None)


def _share(scores: Sequence[float] | None) -> float:
    """A grade of 1 to 5 as 0 to 1; 0 where the judge gave none."""
    return 0.0 if scores is None else (expected_grade(scores) - 1) / (len(GRADES) - 1)
