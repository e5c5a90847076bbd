"""Examples for few-shot prompts, out of training rows: at random, the most similar ones to each item, or given ones.

Rows whose input is that of a test item are left out, so no answer of a test item is ever shown. Similarity is BM25 of the
words of all fields (the choice by similarity is that of Liu et al. 2022, who use vectors); the most similar example stands
last, next to the question.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parakit.assistants.prompts.items import PromptItem
from parakit.assistants.prompts.prompt import SelectBy
from parakit.common.errors import UserError
from parakit.common.seeds import derive_seed

ExampleFields = dict[str, Any]


@dataclass(frozen=True)
class ExamplePool:
    """Training rows that may become examples. `n_overlapping`: those that were left out as inputs of test items."""

    rows: tuple[PromptItem, ...]
    n_overlapping: int = 0


def example_pool(rows: Sequence[PromptItem], items: Sequence[PromptItem], where: str) -> ExamplePool:
    """The rows with an answer that are no test items. `UserError` where none is left."""
    tested = {item.content for item in items}
    answered = [row for row in rows if row.answers]
    fresh = tuple(row for row in answered if row.content not in tested)
    if not fresh:
        what = "has no row with an answer" if not answered else "has only rows that are test items"
        raise UserError(f"{where}: {what}", "give training rows, other than the items, with their answers")
    return ExamplePool(fresh, len(answered) - len(fresh))


def select_examples(
    pool: ExamplePool, items: Sequence[PromptItem], n_shots: int, by: SelectBy, seed: int
) -> list[tuple[ExampleFields, ...]]:
    """For each item its examples in the order in which they are shown. At random all items have the same ones.

    `UserError` where there are fewer rows than shots.
    """
    if n_shots > len(pool.rows):
        raise UserError(
            f"{n_shots} examples are wanted, and there are {len(pool.rows)} training rows", "lower --n-shots"
        )
    if by == "similar":
        return _most_similar(pool.rows, items, n_shots)
    drawn = random.Random(derive_seed(seed, "prompt examples")).sample(list(pool.rows), n_shots)
    return [tuple(row.example() for row in drawn)] * len(items)


def _most_similar(
    rows: Sequence[PromptItem], items: Sequence[PromptItem], n_shots: int
) -> list[tuple[ExampleFields, ...]]:
    from parakit.assistants.libraries import needs
    from parakit.assistants.retrieval.words import K1, B, tokenize, top

    table = needs("bm25s").BM25(k1=K1, b=B)
    tokens = tokenize([_text(row) for row in rows], "none")
    table.index(tokens, show_progress=False)
    found = []
    for item in items:
        queried = tokenize([_text(item)], "none")
        names = {number: word for word, number in queried.vocab.items()}
        words = [names[number] for number in queried.ids[0]]
        known = words and table.get_tokens_ids(words)
        best = top(table.get_scores(words), n_shots) if known else []
        best += [number for number in range(len(rows)) if number not in best][: n_shots - len(best)]
        found.append(tuple(rows[number].example() for number in reversed(best)))
    return found


def _text(item: PromptItem) -> str:
    return " ".join(" ".join(value) if isinstance(value, list) else value for value in item.fields.values())
