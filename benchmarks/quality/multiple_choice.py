"""Multiple-choice questions of public suites, answered by log-likelihood: which of them a model has right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.real_models.data import read_lines

SUITES = ("arc_easy", "piqa", "openbook_qa", "copa")
Question = tuple[list[tuple[str, str]], int]
"""(prompt, choice) for each choice, and which is right."""


def questions(data: Path, suite: str, n: int) -> list[Question]:
    """`n` questions of a suite drawn with a fixed seed, or all where it has fewer."""
    folder = data / "foundry_eval"
    rows = read_lines(next(folder.glob(f"{suite}.jsonl*")))
    drawn = random.Random(0).sample(rows, min(n, len(rows)))
    return [
        ([(_prompt(row["query"]), f" {choice}") for choice in row["choices"]], row["gold"]) for row in drawn
    ]


def answered_right(model: Any, tokenizer: Any, drawn: Sequence[Question]) -> list[bool]:
    """Whether the likeliest choice of each question is the right one."""
    from parakit.inference.scoring import log_likelihoods

    pairs = [choice for choices, _ in drawn for choice in choices]
    scores = iter(log_likelihoods(model, tokenizer, pairs))
    found = []
    for choices, gold in drawn:
        values = [next(scores) for _ in choices]
        found.append(values.index(max(values)) == gold)
    return found


def _prompt(query: str) -> str:
    return f"{query.rstrip()}\nAnswer:" if query.startswith("Question:") else query
