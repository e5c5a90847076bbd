"""Preferences between a model's answers, and the reward model that is trained on them.

The gold reward (benchmarks/alignment_frontier/gold.py) stands for what people want. They compare pairs of answers of
the start model, of which there are few, and now and then they err; the reward model is trained on nothing else. Most
of the start's answers are short of the twelve words that gold asks for, so in what was compared longer was better,
nearly always: which is right for such pairs, and wrong beyond them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.research.alignment_frontier.chat_model import load_model_and_prompts
from benchmarks.research.alignment_frontier.gold import gold_of
from parakit.alignment.config import BestOfNConfig, RewardConfig
from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.prompts import RLPrompt, SampledCompletion
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollouts import complete
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Conversation
from parakit.data.preferences import prepare_preferences
from parakit.data.splits import split_of
from parakit.model.heads import LanguageModel
from parakit.stages.alignment import AlignJob
from parakit.stages.job_builders import align
from parakit.tokens.tokenizer.tokenizer import Tokenizer

GOLD = FunctionReward("gold", gold_of)
MAX_NEW_TOKENS, HELD_OUT = 40, 0.3
N_COMPARED = 8  # answers to a prompt that pairs are taken from


@dataclass(frozen=True)
class Start:
    """The model before alignment, and its prompts: some to train on, others to measure on."""

    folder: Path
    model: LanguageModel
    tokenizer: Tokenizer
    train: list[RLPrompt]
    held_out: list[RLPrompt]

    @classmethod
    def load(cls, folder: Path) -> Start:
        """A primer model tuned for chat, and small talk, split by the prompt's own digest."""
        model, tokenizer, prompts = load_model_and_prompts(folder, "over-optimisation")
        parts: dict[bool, list[RLPrompt]] = {True: [], False: []}
        for prompt in prompts:
            digest = Conversation(prompt.messages).digest
            parts[split_of(digest, HELD_OUT, 0.0) == "train"].append(prompt)
        return cls(folder, model, tokenizer, parts[True], parts[False])

    def samples(self, prompts: Sequence[RLPrompt], n: int, seed: int) -> list[SampledCompletion]:
        """`n` answers to each prompt, those of one prompt one after the other."""
        return complete(self.model, self.tokenizer, prompts, sampling(n), seed)[0]


def sampling(n: int) -> BestOfNConfig:
    """How `n` answers to each prompt are sampled."""
    return BestOfNConfig(max_new_tokens=MAX_NEW_TOKENS, group_size=n)


def draw_pairs(
    samples: Sequence[SampledCompletion], gold: np.ndarray, n_pairs: int, error_rate: float, seed: int
) -> list[dict[str, str]]:
    """Pairs of answers to one prompt, drawn at random, the better by `gold` (P, N) chosen; in a share of
    `error_rate` the worse. Answers that are equally good are not compared.
    """
    drawn, rows = rng(seed, "pairs"), list[dict[str, str]]()
    n_prompts, n_answers = gold.shape
    assert (gold.max(1) > gold.min(1)).any(), "all answers are equally good"
    while len(rows) < n_pairs:
        prompt = int(drawn.integers(n_prompts))
        better, worse = (int(n) for n in drawn.choice(n_answers, 2, replace=False))
        errs = drawn.random() < error_rate
        if gold[prompt, better] == gold[prompt, worse]:
            continue
        if (gold[prompt, better] < gold[prompt, worse]) != errs:
            better, worse = worse, better
        chosen, rejected = (samples[prompt * n_answers + n] for n in (better, worse))
        if chosen.completion.strip() and rejected.completion.strip():
            rows.append(
                {
                    "prompt": chosen.messages[-1].content,
                    "chosen": chosen.completion,
                    "rejected": rejected.completion,
                }
            )
    return rows


def train_proxy(start: Start, n_pairs: int, error_rate: float, seed: int, work: Path) -> ModelReward:
    """A reward model, trained as `parakit align --method reward` trains one, on pairs of the start's answers."""
    samples = start.samples(start.train, N_COMPARED, seed)
    gold = compute_rewards(GOLD, samples).reshape(-1, N_COMPARED)
    rows = draw_pairs(samples, gold, n_pairs, error_rate, seed)
    work.mkdir(parents=True, exist_ok=True)
    file = work / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pairs = prepare_preferences([str(file)], work / "pairs", validation_fraction=0.1)
    training = RewardConfig(seed=seed, compile="off", epochs=4, batch_examples=16)
    align(AlignJob(start.folder, pairs, work / "work", training), work / "proxy")
    return ModelReward(work / "proxy")


def agreement(proxy: np.ndarray, gold: np.ndarray) -> float:
    """In what share of the pairs of unlike gold reward the proxy prefers the better answer; both (P, N)."""
    right = n = 0.0
    for learned, true in zip(proxy, gold, strict=True):
        apart = np.sign(true[:, None] - true[None])
        same = np.sign(learned[:, None] - learned[None]) == apart
        right, n = right + float(same[apart > 0].sum()), n + float((apart > 0).sum())
    return right / n
