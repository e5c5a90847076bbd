"""IFEval: instructions in a prompt that a program can verify, such as "in fewer than 50 words" (Zhou et al. 2023).

`strict` and `loose`: the share of prompts of which every instruction is followed; `instruction_strict` and
`instruction_loose`: of instructions. By kind of instruction, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.data.cleaning.language import detect_language
from parakit.evaluation.intervals import bootstrap_mean, wilson_interval
from parakit.evaluation.measures.answers import generate_answers
from parakit.evaluation.measures.instructions import LANGUAGE_KINDS, find_check, follows
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol, read_rows
from parakit.evaluation.results import BenchmarkResult, Item, Protocol, Score, summarize_items
from parakit.inference.config import SamplingConfig

KEYS = ("key", "prompt", "instruction_id_list", "kwargs")
MAX_NEW_TOKENS = 1280
Rows = Sequence[Mapping[str, Any]]


def measure_ifeval(given: MeasureInput) -> BenchmarkResult:
    """Accuracy on IFEval; needs `ifeval/input_data.jsonl.gz` in the data."""
    rows = read_rows(
        find_file(given, "ifeval", "ifeval/input_data.jsonl.gz", "ifeval/input_data.jsonl"), KEYS
    )
    drawn = draw(rows, given, "ifeval")
    _check_rows(drawn)
    prompts = [row["prompt"] for row in drawn]
    answers = generate_answers(given, prompts, SamplingConfig(temperature=0.0, max_new_tokens=MAX_NEW_TOKENS))
    found = protocol("ifeval", given, rows, prompts, settings={"max_new_tokens": MAX_NEW_TOKENS})
    return score_answers(found, drawn, answers.first, n_truncated=answers.n_truncated)


def score_answers(
    found: Protocol, rows: Rows, answers: Sequence[str], *, n_truncated: int = 0
) -> BenchmarkResult:
    """The result of given answers to the prompts of `rows`."""
    strict = [_followed(row, answer, loosely=False) for row, answer in zip(rows, answers, strict=True)]
    loose = [_followed(row, answer, loosely=True) for row, answer in zip(rows, answers, strict=True)]
    items = [
        Item(
            str(row["key"]),
            row["prompt"],
            ", ".join(row["instruction_id_list"]),
            answer,
            {"strict": float(all(first)), "loose": float(all(second))},
        )
        for row, answer, first, second in zip(rows, answers, strict, loose, strict=True)
    ]
    result = summarize_items(found, items, "strict", n_truncated=n_truncated)
    scores = {**result.scores, "instruction_strict": _share(strict), "instruction_loose": _share(loose)}
    return dataclasses.replace(result, scores=scores, groups=_by_kind(rows, strict, loose))


def _followed(row: Mapping[str, Any], answer: str, *, loosely: bool) -> list[bool]:
    return [
        follows(kind, settings, answer, loosely=loosely)
        for kind, settings in zip(row["instruction_id_list"], row["kwargs"], strict=True)
    ]


def _share(followed: Sequence[Sequence[bool]]) -> Score:
    """The share of instructions, with an interval over prompts: those of one prompt depend on each other."""
    found = bootstrap_mean(
        np.array([sum(one) for one in followed], float), np.array([len(one) for one in followed], float)
    )
    return Score(found.value, found.low, found.high, sum(map(len, followed)))


def _by_kind(
    rows: Rows, strict: Sequence[Sequence[bool]], loose: Sequence[Sequence[bool]]
) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, list[bool]]] = {}
    for row, first, second in zip(rows, strict, loose, strict=True):
        for kind, a, b in zip(row["instruction_id_list"], first, second, strict=True):
            lists = found.setdefault(kind, {"instruction_strict": [], "instruction_loose": []})
            lists["instruction_strict"].append(a)
            lists["instruction_loose"].append(b)
    return {
        kind: {
            name: Score(sum(values) / len(values), *wilson_interval(sum(values), len(values)), len(values))
            for name, values in lists.items()
        }
        for kind, lists in sorted(found.items())
    }


def _check_rows(rows: Rows) -> None:
    """`UserError` for a row that cannot be checked, before anything is generated."""
    for row in rows:
        kinds, settings = row["instruction_id_list"], row["kwargs"]
        if len(kinds) != len(settings):
            raise UserError(
                f"ifeval, key {row['key']}: {len(kinds)} instructions and {len(settings)} kwargs",
                "give one of each",
            )
        for kind, one in zip(kinds, settings, strict=True):
            try:
                find_check(kind)
                if kind not in LANGUAGE_KINDS:
                    follows(kind, one, "a")
            except KeyError as error:
                raise UserError(
                    f"ifeval, key {row['key']}: {kind} has no {error}", "add it to kwargs"
                ) from None
    if any(kind in LANGUAGE_KINDS for row in rows for kind in row["instruction_id_list"]):
        detect_language("a word")  # its library may be missing
