"""DPO towards a known reward, in rounds: the policy answers each prompt several times, its better answers are preferred to
its worse ones, and the next round starts from the result. Each round's reference is the round's own start;
the divergence is always that from the first model.

Pairs of the first model's answers alone lead astray: answers of the wanted kind are rare among them (docs/log.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import Figures
from benchmarks.research.alignment_frontier.chat_model import MAX_NEW_TOKENS
from benchmarks.research.alignment_frontier.run_timer import RunTimer
from parakit.alignment.config import BestOfNConfig, DPOConfig, GRPOConfig
from parakit.alignment.rl.policy_eval import evaluate_policy
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rollouts import complete, frozen_copy
from parakit.checkpoints.loading import load_model
from parakit.data.preferences import prepare_preferences
from parakit.stages.alignment import AlignJob
from parakit.stages.job_builders import align
from parakit.stages.rl_jobs import RLContext

N_ROUNDS, N_ANSWERS, PAIRS_OF_A_PROMPT = 6, 16, 4
KL_LIMIT = 6.0  # nats a completion, after which no round begins
SETTINGS: dict[str, Any] = {
    "optimizer": "adamw", "schedule": "constant", "learning_rate": 2e-4, "kl_coef": 0.3, "epochs": 1,
    "batch_examples": 16, "compile": "off",
}  # fmt: skip


def dpo_rounds(start: Path, context: RLContext, seed: int) -> dict[str, Any]:
    """Points of divergence and reward after every round, and the figures at the end."""
    timer = RunTimer()
    reference = frozen_copy(context.policy)

    def measured(policy: Any) -> Figures:
        config = GRPOConfig(max_new_tokens=MAX_NEW_TOKENS)
        return evaluate_policy(policy, reference, context.tokenizer, context.held_out, context.reward, config)

    found = [measured(context.policy)]
    model, policy = start, context.policy
    with TemporaryDirectory() as folder:
        for number in range(N_ROUNDS):
            data, out = Path(folder) / f"data-{number}", Path(folder) / f"model-{number}"
            _write_pairs(policy, context, N_ROUNDS * seed + number, data)
            training = DPOConfig.parse({"seed": N_ROUNDS * seed + number} | SETTINGS)
            align(AlignJob(model, data, Path(folder) / f"work-{number}", training), out)
            model, policy = out, load_model(out, "cpu", "float32")[0].eval()  # type: ignore[assignment]
            found.append(measured(policy))
            if found[-1]["kl"] > KL_LIMIT:
                break
    return timer.result(found[0], found[-1], found[1:])


def _write_pairs(policy: Any, context: RLContext, seed: int, path: Path) -> None:
    """A set of preferences among the policy's own answers."""
    config = BestOfNConfig(max_new_tokens=MAX_NEW_TOKENS, group_size=N_ANSWERS)
    samples, _ = complete(policy, context.tokenizer, context.train, config, seed)
    rewards = compute_rewards(context.reward, samples)
    file = path.with_suffix(".jsonl")
    with file.open("w", encoding="utf-8") as lines:
        for first in range(0, len(samples), N_ANSWERS):
            group = slice(first, first + N_ANSWERS)
            rewards_by_text = dict(zip((s.completion for s in samples[group]), rewards[group], strict=True))
            prompt = [{"role": m.role, "content": m.content} for m in samples[first].messages]
            for better, worse in _pairs(
                {text: reward for text, reward in rewards_by_text.items() if text.strip()}
            ):
                lines.write(json.dumps({"prompt": prompt, "chosen": better, "rejected": worse}) + "\n")
    prepare_preferences([str(file)], path)


def _pairs(reward_of: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The best with the worst, the second best with the second worst, and so on, where one is better."""
    order = sorted(reward_of, key=lambda text: reward_of[text], reverse=True)
    for place in range(min(PAIRS_OF_A_PROMPT, len(order) // 2)):
        better, worse = order[place], order[-1 - place]
        if reward_of[better] > reward_of[worse]:
            yield better, worse
