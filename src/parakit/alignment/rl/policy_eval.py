"""How a policy does on prompts it does not learn from: mean reward, distance from the reference, length.

Completions are sampled as in rollouts, with seeds that never change: two measurements of one model are equal, and
of two models as alike as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parakit.alignment.rl.config import OnlineConfig
from parakit.alignment.rl.overoptimization import MONITORED, diversity_metrics
from parakit.alignment.rl.prompts import RLPrompt, ids_of
from parakit.alignment.rl.reward import Reward, compute_rewards
from parakit.alignment.rl.rollouts import complete, exact_kl, token_rows
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

EVAL_SEED = 20_250_120
N_SHOWN = 4  # samples that the report keeps


def evaluate_policy(
    policy: LanguageModel,
    reference: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    reward: Reward,
    config: OnlineConfig,
    watched: Sequence[Reward] = (),
) -> dict[str, Any]:
    """Figures over one sampled completion of each prompt. `kl` is in nats a completion, every token's taken over
    the whole vocabulary; `watched` are other judges, whose rewards are told under `WATCHED` and their names.
    """
    config = config.replace(group_size=1)
    samples, completions = complete(policy, tokenizer, prompts, config, EVAL_SEED)
    rewards = compute_rewards(reward, samples)
    kl = exact_kl(policy, reference, token_rows(ids_of(prompts), completions))
    others: dict[str, float] = {}
    for judge in watched:
        found = compute_rewards(judge, samples)
        others |= {
            f"{MONITORED}{judge.name}": float(found.mean()),
            f"{MONITORED}{judge.name} std": float(found.std()),
        }
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "reward_max": float(rewards.max()),
        **others,
        "kl": float(kl.mean()),
        **diversity_metrics(completions),
        "length": sum(map(len, completions)) / len(completions),
        "completions": len(samples),
        "ended": sum(sample.ended for sample in samples) / len(samples),
        "loss": -float(rewards.mean()),
    }


def greedy_samples(
    policy: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    reward: Reward,
    config: OnlineConfig,
) -> list[dict[str, Any]]:
    """Greedy completions of the first few prompts, with their rewards."""
    config = config.replace(group_size=1)
    samples, _ = complete(policy, tokenizer, prompts[:N_SHOWN], config, EVAL_SEED, temperature=0.0)
    rewards = compute_rewards(reward, samples)
    return [
        {"prompt": sample.messages[-1].content, "completion": sample.completion, "reward": float(value)}
        for sample, value in zip(samples, rewards, strict=True)
    ]
