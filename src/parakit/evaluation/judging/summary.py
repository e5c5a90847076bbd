"""What verdicts and grades come to: ratings, records, position bias, agreement with people, results as benchmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parakit.common.files import JsonObject
from parakit.evaluation.judging.agreement import expected_grade, grade_agreement, vote_agreement
from parakit.evaluation.judging.config import JudgeConfig
from parakit.evaluation.judging.inputs import GradeVote, Question, Vote
from parakit.evaluation.judging.judges import GradedAnswer, Scores
from parakit.evaluation.judging.prompts import TEMPLATES
from parakit.evaluation.judging.ratings import rate
from parakit.evaluation.judging.verdicts import matches_of, position_bias
from parakit.evaluation.results import PROGRAM, Item, Protocol, digest, plain_benchmarks, summarize_items

MAIN = "grade"


@dataclass(frozen=True)
class JudgingResult:
    """The figures for results.json, a line for each verdict, and the items of graded models."""

    figures: JsonObject
    rows: Sequence[JsonObject]
    items: Mapping[str, Sequence[Item]] = field(default_factory=dict)


def pairwise_result(
    rows: Sequence[JsonObject],
    models: Sequence[str],
    n_missing: int,
    votes: Sequence[Vote],
    seed: int = 0,
) -> JudgingResult:
    """Of verdict rows: `ratings` from best to worst with `notes`, the record of every pair of models, `position_bias`, and
    `agreement` with votes, if there are any. `n_missing` pairs lack an answer.
    """
    comparisons = matches_of(rows)
    table = rate(comparisons, seed=seed) if comparisons else None
    pairs = []
    for i, first in enumerate(models):
        for second in models[i + 1 :]:
            outcomes = [one.outcome for one in comparisons if (one.first, one.second) == (first, second)]
            record = {"wins": outcomes.count(1.0), "ties": outcomes.count(0.5), "losses": outcomes.count(0.0)}
            pairs.append({"model_a": first, "model_b": second, **record})
    bias = position_bias(rows)
    notes = list(table.notes) if table else []
    if bias and bias["consistent"]["value"] < 0.5:
        notes.append(
            "the judge contradicts itself in most pairs when their order is changed: choose a better one"
        )
    figures: JsonObject = {
        "n_verdicts": len(comparisons),
        "n_unjudged": len(rows) - len(comparisons),
        "n_without_answer": n_missing,
        "n_equal": sum(row["equal"] for row in rows),
        "ratings": [dataclasses.asdict(one) for one in table.ratings] if table else [],
        "notes": notes,
        "pairs": pairs,
        "position_bias": bias,
        "agreement": vote_agreement(rows, votes, seed) if votes else None,
    }
    return JudgingResult(figures, rows)


def graded_protocol(questions: Sequence[Question], judge: str, config: JudgeConfig) -> Protocol:
    """Grades are on one scale only where the judge, its prompt and the questions are the same."""
    texts = [part for one in questions for part in (one.id, one.text, one.reference or "")]
    return Protocol(
        task="judge",
        version="1",
        program=PROGRAM,
        data_digest=digest(texts),
        prompts_digest=digest([TEMPLATES["graded"], config.criterion, *texts]),
        prompting="chat",
        settings={"judge": judge, "criterion": config.criterion, "max_new_tokens": config.max_new_tokens},
    )


def graded_result(
    graded: Sequence[tuple[str, GradedAnswer]],
    scores: Sequence[Scores | None],
    protocol: Protocol,
    n_missing: int,
    votes: Sequence[GradeVote],
    seed: int = 0,
) -> JudgingResult:
    """Of answers by model and the judge's probabilities of their grades: a benchmark's result for each model, whose metric
    is the expected grade, and `agreement` with people's grades, if there are any.
    """
    rows: list[JsonObject] = []
    items: dict[str, list[Item]] = {}
    for (model, answer), found in zip(graded, scores, strict=True):
        question = answer.question
        grade = None if found is None else expected_grade(found)
        row: JsonObject = {"id": question.id, "model": model, "prompt": question.text, "answer": answer.text}
        rows.append(row | {"grade": grade, "scores": found})
        if grade is not None:
            target, values = question.reference or "", {MAIN: grade}
            items.setdefault(model, []).append(Item(question.id, question.text, target, answer.text, values))
    results = {name: summarize_items(protocol, found, MAIN) for name, found in items.items()}
    by_answer = {(row["id"], row["model"]): row["scores"] for row in rows if row["scores"] is not None}
    n_graded = sum(map(len, items.values()))
    figures: JsonObject = {
        "n_verdicts": n_graded,
        "n_unjudged": len(rows) - n_graded,
        "n_without_answer": n_missing,
        "benchmarks": plain_benchmarks(results),
        "agreement": grade_agreement(by_answer, votes, seed) if votes else None,
    }
    return JudgingResult(figures, rows, items)
