"""Calibration on multiple-choice questions: whether the probability that a model gives its choice is how often it is right.

A choice's confidence is its likelihood's share among the choices of the question. The questions are those of ARC-Easy, or
any file of rows with `query`, `choices` and `gold`, the index of the right one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from parakit.common.errors import UserError
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.measures.rows import draw, find_file, protocol, read_rows
from parakit.evaluation.metrics.calibration import brier, calibration_error
from parakit.evaluation.results import BenchmarkResult, Item, Score, summarize_items
from parakit.inference.scoring import log_likelihoods

QUESTIONS_AT_ONCE = 64
FILES = ("calibration/questions.jsonl", "foundry_eval/arc_easy.jsonl.gz", "foundry_eval/arc_easy.jsonl")


def measure_calibration(given: MeasureInput) -> BenchmarkResult:
    """ECE, Brier score, confidence and accuracy. A file `calibration/questions.jsonl` in the data is used first."""
    path = find_file(given, "calibration", *FILES)
    rows = read_rows(path, ("query", "choices", "gold"))
    for number, row in enumerate(rows, 1):
        if not 0 <= row["gold"] < len(row["choices"]):
            raise UserError(
                f"{path.name}, row {number}: gold = {row['gold']} of {len(row['choices'])} choices",
                "gold is the index of the right choice, from 0",
            )
    numbered = draw(list(enumerate(rows)), given, "calibration")
    items, prompts = [], []
    for start in range(0, len(numbered), QUESTIONS_AT_ONCE):
        part = numbered[start : start + QUESTIONS_AT_ONCE]
        texts = [f"{row['query'].rstrip()}\nAnswer:" for _, row in part]
        prompts += texts
        pairs = [
            (text, f" {choice}")
            for text, (_, row) in zip(texts, part, strict=True)
            for choice in row["choices"]
        ]
        values = iter(log_likelihoods(given.model, given.tokenizer, pairs))
        for text, (i, row) in zip(texts, part, strict=True):
            found = [next(values) for _ in row["choices"]]
            items.append(_item(str(i), text, row["choices"], int(row["gold"]), found))
        if given.advance is not None:
            given.advance(len(part))
    form = protocol("calibration", given, rows, prompts, chat=False, settings={"file": path.name})
    result = summarize_items(form, items, "accuracy", lower_is_better=("brier",))
    confidence, correct = (
        np.array([item.scores[name] for item in items]) for name in ("confidence", "accuracy")
    )
    error = calibration_error(confidence, correct, seed=given.seed)
    scores = {**result.scores, "ece": Score(error.value, error.low, error.high, len(items), False)}
    return dataclasses.replace(result, scores=scores)


def _item(name: str, prompt: str, choices: Sequence[str], gold: int, values: Sequence[float]) -> Item:
    top = max(values)
    chosen = values.index(top)
    confidence = 1.0 / sum(math.exp(value - top) for value in values)
    correct = float(chosen == gold)
    scores = {
        "accuracy": correct,
        "confidence": confidence,
        "brier": float(brier(np.array(confidence), np.array(correct))),
    }
    return Item(name, prompt, choices[gold], choices[chosen], scores)
