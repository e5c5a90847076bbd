"""A published model of 135M parameters as a judge: of answers to the primer's questions, of which one is known to be right,
and of two answers between which people chose (Anthropic's harmless-base test set).

The right answer stands in one of two files of answers, drawn for each question, and the wrong one, which is right for another
question of the same suite, in the other; votes say which. With `reference` the judge's prompt holds the right answer too, so
it has only to recognize it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.quality.real_models.data import Rows, find_source, write_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark

NAMES = ("one", "other")
N_SUITE_ITEMS = 120  # of which wrong answers are drawn
ROWS: Mapping[str, Mapping[str, Any]] = {
    "pairwise": {"kind": "pairwise"},
    "pairwise_reference": {"kind": "pairwise"},
    "graded": {"kind": "graded"},
    "graded_reference": {"kind": "graded"},
    "human_votes": {"kind": "pairwise", "criterion": "harmless"},
}


@dataclass
class Case:
    """Questions with a better and a worse answer; the better one is in the file `better[i]` of the two."""

    prompts: Rows = field(default_factory=list)
    answers: dict[str, Rows] = field(default_factory=lambda: {name: [] for name in NAMES})
    better: list[str] = field(default_factory=list)

    def add(self, prompt: Mapping[str, Any], best: str, worst: str, draw: random.Random) -> None:
        """Add a question, and its answers in a drawn order."""
        first = draw.choice(NAMES)
        self.prompts.append(dict(prompt))
        self.better.append(first)
        for name in NAMES:
            self.answers[name].append({"id": prompt["id"], "answer": best if name == first else worst})

    def votes(self, kind: str) -> Rows:
        """As `parakit judge --votes` reads them."""
        if kind == "pairwise":
            return [
                {"id": prompt["id"], "model_a": NAMES[0], "model_b": NAMES[1], "winner": better}
                for prompt, better in zip(self.prompts, self.better, strict=True)
            ]
        return [
            {"id": prompt["id"], "model": name, "grade": 5 if name == better else 1}
            for prompt, better in zip(self.prompts, self.better, strict=True)
            for name in NAMES
        ]


@benchmark("judge", {
    "*.preferred.value": (NO_TARGET, "{0}: the better answer is preferred, mean of both orders (a coin: 0.5)"),
    "*.accuracy.value": (NO_TARGET, "{0}: verdicts that agree with the votes"),
    "*.kappa.value": (NO_TARGET, "{0}: Cohen's kappa with the votes"),
    "*.consistent.value": (NO_TARGET, "{0}: pairs with the same verdict in both orders"),
    "*.first_share.value": (NO_TARGET, "{0}: how often the answer shown first is chosen"),
    "*.longer_is_better": (NO_TARGET, "{0}: the longer answer is the better one"),
    "*.spearman.value": (NO_TARGET, "{0}: rank correlation of the grades"),
})  # fmt: skip
def judge(
    *,
    data: Path = DATA,
    rows: tuple[str, ...] = tuple(ROWS),
    n_questions: int = 20,
    n_human: int = 60,
    judge: Path | None = None,
    work: Path | None = None,
) -> Figures:
    """`n_questions`: of each of the primer's eight suites; `n_human`: the shortest pairs that people chose between. `judge`:
    another judge than the published model. `work` keeps rows and verdicts: an interrupted run resumes.
    """
    with work_folder(work) as folder:
        model = judge or folder / "model"
        if not model.exists():
            _import(model)
        return {
            name: kept_or_measured(
                folder / "rows" / f"{name}.json" if work else None,
                lambda name=name: _row(name, model, _case(name, data, n_questions, n_human), folder / name),  # type: ignore[misc]
            )
            for name in rows
        }


def _import(place: Path) -> None:
    from parakit.checkpoints.import_export import import_model

    import_model(str(find_source("smollm2")), place)


def _case(name: str, data: Path, n_questions: int, n_human: int) -> Case:
    if name == "human_votes":
        return _human(data, n_human)
    return _primer(n_questions, "reference" in name)


def _primer(n_questions: int, with_reference: bool) -> Case:
    from parakit.primer import generate_suites, is_correct
    from parakit.primer.config import PrimerSuitesConfig

    case = Case()
    for suite, items in generate_suites(PrimerSuitesConfig(n_suite_items=N_SUITE_ITEMS)).items():
        draw = random.Random(suite)
        for number, item in enumerate(items[:n_questions]):
            wrong = draw.choice([one.answer for one in items if not is_correct(item, one.answer)])
            prompt: dict[str, Any] = {"id": f"{suite}/{number}"}
            prompt["messages"] = [{"role": one.role, "content": one.content} for one in item.messages]
            if with_reference:
                prompt["reference"] = item.answer
            case.add(prompt, item.answer, wrong, draw)
    return case


def _human(data: Path, n: int) -> Case:
    from parakit.data.preferences import read_preferences
    from parakit.data.row_report import RowReport

    found = [
        one
        for _, one in read_preferences(str(data / "hh_rlhf" / "test.jsonl.gz"), RowReport())
        if one.completions[0].strip() != one.completions[1].strip()
    ]
    found.sort(key=lambda one: sum(len(m.content) for m in one.prompt) + sum(map(len, one.completions)))
    draw, case = random.Random(0), Case()
    for number, one in enumerate(found[:n]):
        messages = [{"role": message.role, "content": message.content} for message in one.prompt]
        case.add({"id": f"pair/{number}", "messages": messages}, one.completions[0], one.completions[1], draw)
    return case


def _row(name: str, model: Path, case: Case, place: Path) -> Figures:
    from parakit.evaluation.judging.config import JudgeConfig
    from parakit.stages.judging import JudgeJob, judge_models

    settings = ROWS[name]
    place.mkdir(parents=True, exist_ok=True)
    files = {name: write_lines(place / f"{name}.jsonl", rows) for name, rows in case.answers.items()}
    job = JudgeJob(
        str(model),
        JudgeConfig(**settings),
        prompts=str(write_lines(place / "prompts.jsonl", case.prompts)),
        answers=tuple(map(str, files.values())),
        votes=str(write_lines(place / "votes.jsonl", case.votes(settings["kind"]))),
    )
    found = judge_models(job, place / "judged", overwrite=True)
    verdicts = [json.loads(line) for line in (place / "judged" / "verdicts.jsonl").read_text().splitlines()]
    shown = {"n_verdicts": found["n_verdicts"], "n_unjudged": found["n_unjudged"]} | found["agreement"]
    if settings["kind"] == "pairwise":
        return (
            shown | found["position_bias"] | _by_suite(case, verdicts) | {"longer_is_better": _longer(case)}
        )
    return shown | {"preferred": _higher_grade(case, verdicts)}


def _by_suite(case: Case, verdicts: Sequence[Mapping[str, Any]]) -> Figures:
    """How often the better answer is preferred in the mean of both orders, in each suite."""
    better = {prompt["id"]: name for prompt, name in zip(case.prompts, case.better, strict=True)}
    right: dict[str, list[float]] = {}
    for row in verdicts:
        if row["preference"] is not None:
            toward = (
                row["preference"] - 0.5 if better[row["id"]] == row["model_a"] else 0.5 - row["preference"]
            )
            right.setdefault(row["id"].partition("/")[0], []).append((toward > 0) + (toward == 0) / 2)
    return {"preferred_by_suite": {suite: sum(found) / len(found) for suite, found in right.items()}}


def _higher_grade(case: Case, verdicts: Sequence[Mapping[str, Any]]) -> Figures:
    """How often the better answer has the higher expected grade; equal ones count a half."""
    import numpy as np

    from parakit.evaluation.intervals import bootstrap_mean

    grades = {(row["id"], row["model"]): row["grade"] for row in verdicts}
    values = []
    for prompt, better in zip(case.prompts, case.better, strict=True):
        worse = NAMES[1 - NAMES.index(better)]
        high, low = grades[prompt["id"], better], grades[prompt["id"], worse]
        if high is not None and low is not None:
            values.append((np.sign(high - low) + 1) / 2)
    found = bootstrap_mean(np.array(values))
    return {"value": found.value, "low": found.low, "high": found.high}


def _longer(case: Case) -> float:
    """How often a judge would be right that prefers the longer answer; equal lengths count a half."""
    n = 0.0
    for i, better in enumerate(case.better):
        worse = NAMES[1 - NAMES.index(better)]
        lengths = [len(case.answers[name][i]["answer"]) for name in (better, worse)]
        n += (lengths[0] > lengths[1]) + (lengths[0] == lengths[1]) / 2
    return n / len(case.better)
