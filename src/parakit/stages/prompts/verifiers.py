"""Verifiers of sampled replies: a reward model, a chat model that grades, or a checker that runs in the sandbox.

None may see a right answer: what a verifier can tell from the question and the reply alone is what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from parakit.tokens.preferences.encoding import completion_ids, encode_rankings
from parakit.tokens.tokenizer.tokenizer import Tokenizer

VOTES = "votes"
WORST = -1e9
"""The score of a reply that there is not, or that the verifier cannot read."""


def verify(
    name: str, items: Sequence[PromptItem], replies: Sequence[Sequence[str | None]], device: str = "cpu"
) -> np.ndarray:
    """A verifier's score of every reply (P, N) to items without right answers.

    `name`: a Python file, a model folder, or a URL. `UserError` for another.
    """
    if name.endswith(".py"):
        return _graded(ScoreConfig(metric="checker", checker=name), items, replies, device)
    if is_endpoint(name):
        return _graded(ScoreConfig(metric="judge", judge=name), items, replies, device)
    if not os.path.isdir(name):
        raise UserError(
            f"{name}: no such verifier", f"give {VOTES}, a model's folder, a URL, or a checker's .py file"
        )
    model, tokenizer = load_model(Path(name), device)
    if not isinstance(model, RewardModel):
        return _graded(ScoreConfig(metric="judge", judge=name), items, replies, device)
    if tokenizer is None:
        raise UserError(f"{name}: has no tokenizer", "put the reward model's tokenizer there")
    return _rewards(model, tokenizer, items, replies)


def _rewards(
    model: RewardModel,
    tokenizer: Tokenizer,
    items: Sequence[PromptItem],
    replies: Sequence[Sequence[str | None]],
) -> np.ndarray:
    """Each different reply is read once; one that is longer than the window with its question is the worst."""
    window = model.config.max_seq_len
    found = np.full((len(items), max(map(len, replies))), WORST)
    for number, (item, texts) in enumerate(zip(items, replies, strict=True)):
        messages = question_of(item).messages
        fitting = [
            text
            for text in dict.fromkeys(text for text in texts if text)
            if sum(map(len, completion_ids(tokenizer, messages, text))) <= window
        ]
        if not fitting:
            continue
        pair = fitting if len(fitting) > 1 else fitting * 2  # a ranking has two completions or more
        data = encode_rankings(tokenizer, [Ranking(messages, tuple(pair))], window)
        rewards = dict(zip(pair, score_rankings(model, data).tolist(), strict=True))
        found[number, : len(texts)] = [rewards.get(text or "", WORST) for text in texts]
    return found


def _graded(
    config: ScoreConfig, items: Sequence[PromptItem], replies: Sequence[Sequence[str | None]], device: str
) -> np.ndarray:
    """By a checker or a judge."""
    scorer = make_scorer(config, items, device)
    flat = [(item, text) for item, texts in zip(items, replies, strict=True) for text in texts]
    return np.array(scorer(flat), float).reshape(len(items), -1)
