"""Verifiers of sampled replies: a reward model, a chat model that grades, or a checker that runs in the sandbox.

None sees a right answer: what a verifier can tell from the question and the reply alone is what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from parakit.assistants.prompts.items import PromptItem
from parakit.checkpoints.loading import load_model
from parakit.common.errors import UserError
from parakit.data.preferences.rankings import Ranking
from parakit.evaluation.preferences import score_rankings
from parakit.inference.chat_models.locations import is_endpoint
from parakit.model.heads import RewardModel
from parakit.stages.prompts.config import ScoreConfig
from parakit.stages.prompts.scoring import make_scorer, question_of
from parakit.tokens.preferences.encoding import encode_rankings

VOTES = "votes"
WORST = -1e9
"""The score of a reply that there is not, or that the verifier cannot read."""


def verify(
    name: str, items: Sequence[PromptItem], replies: Sequence[Sequence[str | None]], device: str = "cpu"
) -> np.ndarray:
    """A verifier's score of every reply (P, N). `name`: a Python file, a model folder, or a URL. `UserError` for another."""
    if name.endswith(".py"):
        return _graded(ScoreConfig(metric="checker", checker=name), items, replies, device)
    if is_endpoint(name):
        return _graded(ScoreConfig(metric="judge", judge=name), items, replies, device)
    if not Path(name).is_dir():
        raise UserError(
            f"{name}: no such verifier", f"give {VOTES}, a model's folder, a URL, or a checker's .py file"
        )
    model, tokenizer = load_model(Path(name), device)
    if not isinstance(model, RewardModel):
        return _graded(ScoreConfig(metric="judge", judge=name), items, replies, device)
    if tokenizer is None:
        raise UserError(f"{name}: has no tokenizer", "put the reward model's tokenizer there")
    found = np.full((len(items), max(map(len, replies))), WORST)
    for number, (item, texts) in enumerate(zip(items, replies, strict=True)):
        rows = [i for i, text in enumerate(texts) if text]
        different = list(dict.fromkeys(text for text in texts if text))
        if not rows:
            continue
        if len(different) == 1:
            found[number, rows] = 0.0
            continue
        ranking = Ranking(question_of(item).messages, tuple(different))
        data = encode_rankings(tokenizer, [ranking], model.config.max_seq_len)
        if len(data.first) and data.first[-1] != len(different):
            continue  # longer than the reward model's window
        rewards = dict(zip(different, score_rankings(model, data).tolist(), strict=True))
        for i in rows:
            found[number, i] = rewards[texts[i] or ""]
    return found


def _graded(
    config: ScoreConfig, items: Sequence[PromptItem], replies: Sequence[Sequence[str | None]], device: str
) -> np.ndarray:
    """By a checker or a judge, which do not see the right answers."""
    blind = [replace(item, answers=()) for item in items]
    scorer = make_scorer(config, blind, device)
    flat = [(item, text) for item, texts in zip(blind, replies, strict=True) for text in texts]
    return np.array(scorer(flat), float).reshape(len(items), -1)
