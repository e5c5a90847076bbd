"""Few-shot examples by their gain: each next one is what raises the score on other training rows most.

Greedy forward selection over a random sample of candidates. The rows that candidates are scored on are no candidates, and
no test item is among them. It costs n_shots * `N_CANDIDATES` * `N_SCORED` replies.
"""

from __future__ import annotations

import random
from typing import Any

from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import requests_of, run_prompt
from parakit.assistants.prompts.selection import ExamplePool
from parakit.common.errors import UserError
from parakit.common.progress import log, progress
from parakit.common.seeds import derive_seed
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.stages.prompts.scoring import Scorer

N_CANDIDATES, N_SCORED = 8, 32


def select_by_gain(
    model: ChatModel, prompt: PromptTemplate, pool: ExamplePool, n_shots: int, scorer: Scorer, seed: int
) -> tuple[dict[str, Any], ...]:
    """The examples in the order in which they are shown. `UserError` for a pool that is too small to hold rows back."""
    n_scored = min(N_SCORED, len(pool.rows) // 2)
    if len(pool.rows) - n_scored < n_shots or not n_scored:
        raise UserError(
            f"{len(pool.rows)} training rows are too few for {n_shots} examples and rows to score them on",
            "give more rows, lower --n-shots, or take --select random",
        )
    rows = random.Random(derive_seed(seed, "gain")).sample(list(pool.rows), len(pool.rows))
    scored, left = rows[:n_scored], rows[n_scored:]
    chosen: list[dict[str, Any]] = []
    best = 0.0
    with progress("examples by gain", n_shots * min(N_CANDIDATES, len(left)) * n_scored, "replies") as bar:
        for _ in range(n_shots):
            candidates = left[:N_CANDIDATES]
            scores = []
            for candidate in candidates:
                shown = (*chosen, candidate.example())
                answers = run_prompt(
                    model, prompt, requests_of(scored, [shown] * n_scored, seed), bar.advance
                )
                found = scorer([(item, one.answer) for item, one in zip(scored, answers, strict=True)])
                scores.append(sum(found) / n_scored)
            number = max(range(len(candidates)), key=scores.__getitem__)
            best = scores[number]
            chosen.append(candidates[number].example())
            left = [*left[:number], *left[number + 1 :]]
            left = [*left[len(candidates) - 1 :], *left[: len(candidates) - 1]]  # other candidates next time
    log(f"{prompt.name}: the chosen examples score {best:.3f} on {n_scored} training rows")
    return tuple(chosen)
