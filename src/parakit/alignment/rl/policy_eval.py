"""Evaluation of a policy on held-out prompts: mean reward, KL from the reference, length, diversity.

Completions are sampled as in rollouts with fixed seeds, so evaluations of one model are equal and those of two models
comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

from parakit.alignment.config import RolloutConfig
from parakit.alignment.rl.overoptimization import MONITORED, diversity_metrics
from parakit.alignment.rl.prompts import RLPrompt
from parakit.alignment.rl.reward import Reward, compute_rewards
from parakit.alignment.rl.rollouts import complete, exact_kl, token_rows
from parakit.common.files import JsonObject
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

EVAL_SEED = 20_250_120
N_EXAMPLES = 4  # in the report


def evaluate_policy(
    policy: LanguageModel,
    reference: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[RLPrompt],
    reward: Reward,
    config: RolloutConfig,
    monitor_rewards: Sequence[Reward] = (),
) -> JsonObject:
    """Metrics over one sampled completion of each prompt. `kl` is in nats a completion, every token's over the whole
    vocabulary; `monitor_rewards` are rewards that are not optimised, under `MONITORED` and their names.
    """
    samples, completions = complete(policy, tokenizer, prompts, config, EVAL_SEED, group_size=1)
    rewards = compute_rewards(reward, samples)
    rows = token_rows([prompt.token_ids for prompt in prompts], completions, samples)
    kl = exact_kl(policy, reference, rows)
    monitored: dict[str, float] = {}
    for other in monitor_rewards:
        values = compute_rewards(other, samples)
        monitored |= {
            f"{MONITORED}{other.name}": float(values.mean()),
            f"{MONITORED}{other.name} std": float(values.std()),
        }
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "reward_max": float(rewards.max()),
        **monitored,
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
    config: RolloutConfig,
) -> list[JsonObject]:
    """Greedy completions of the first few prompts, with their rewards."""
    samples, _ = complete(
        policy, tokenizer, prompts[:N_EXAMPLES], config, EVAL_SEED, temperature=0.0, group_size=1
    )
    rewards = compute_rewards(reward, samples)
    return [
        {"prompt": prompt.messages[-1].content, "completion": sample.completion, "reward": float(value)}
        for prompt, sample, value in zip(prompts, samples, rewards, strict=False)
    ]
