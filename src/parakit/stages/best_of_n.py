"""Rejection sampling as a job: sample, keep the best answers, tune on them as on any conversations.

The chosen conversations stay in the model folder (`training/chosen.jsonl`), so that what the model learned from
can be read, and tuned on again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parakit.alignment.config import BestOfNConfig
from parakit.alignment.jsonl_cache import CachedRow, cached_map
from parakit.alignment.rl.best_of_n import best_of_n_curve, best_samples, to_conversation
from parakit.alignment.rl.policy_eval import evaluate_policy
from parakit.alignment.rl.prompts import RLPrompt
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rollouts import complete, frozen_copy
from parakit.common.errors import UserError
from parakit.common.progress import log, progress
from parakit.common.seeds import derive_seed, seed_everything
from parakit.data.conversations.conversation import Conversation, parse_messages, write_conversations
from parakit.data.conversations.sets import prepare_conversations
from parakit.model.presets import default_hyperparameters
from parakit.stages.config import chat_finetuning
from parakit.stages.data import make_conversation_shards
from parakit.stages.plans import resolve_plan
from parakit.stages.rl_jobs import (
    RLContext,
    job_spec,
    load_context,
    pair_samples,
    sample_examples,
    save_policy,
)
from parakit.stages.run_dir import load_plan, run_directory, save_plan
from parakit.stages.running import TrainingInputs, chart_rows, run_training
from parakit.stages.tasks import Splits, TaskBuilder
from parakit.tokens.shards import TokenShards
from parakit.training.config import TrainingPlan
from parakit.training.metrics import EVENTS, METRICS

if TYPE_CHECKING:
    from parakit.stages.alignment import AlignJob

PROMPTS_AT_A_TIME = 16  # between two looks at the clock; what was chosen is kept in a file
LEAST_STEPS_AN_EPOCH = 8
SAMPLED, TUNING, CHOSEN = "step-1-sampled.jsonl", "step-2-tuning", "chosen.jsonl"


def best_of_n_job(job: AlignJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Run `best_of_n` and write the tuned model to `out`; returns the figures, the curve over n among them."""
    config = job.training
    assert isinstance(config, BestOfNConfig)
    with run_directory(job.work, job.training, [job.model], job_spec(job)) as work:
        asked = load_context(job, config)
        reference = frozen_copy(asked.policy)

        def measure() -> dict[str, Any]:
            return evaluate_policy(
                asked.policy,
                reference,
                asked.tokenizer,
                asked.held_out,
                asked.reward,
                config,
                asked.monitor_rewards,
            )

        before, shown = measure(), sample_examples(asked, config)
        rewards, n_chosen = _sampled(asked, config, work)
        figures, plan = _tuned(config, asked, _shards(work, job.model), work / TUNING)
        figures |= measure() | {"task": "chat", "method": "best_of_n", "reward_name": asked.reward.name}
        figures |= {"before": before, "curve": best_of_n_curve(rewards), "n_chosen": n_chosen}
        figures |= {"samples": pair_samples(shown, sample_examples(asked, config))}
        figures |= {"settings": config.model_dump(mode="json")}
        logs = [work / TUNING / METRICS, work / TUNING / EVENTS, work / CHOSEN]
        save_policy(job, asked, out, overwrite, "best_of_n", plan.model_dump(mode="json"), figures, logs)
    return figures


def _tuned(
    config: BestOfNConfig, asked: RLContext, shards: Path, work: Path
) -> tuple[dict[str, Any], TrainingPlan]:
    """Tune the policy on the chosen conversations as `parakit finetune` would."""
    splits, dial = Splits.of_text(shards, "decoder"), default_hyperparameters(asked.policy.config)
    assert isinstance(splits.train, TokenShards)
    few = max(2, splits.train.n_tokens // LEAST_STEPS_AN_EPOCH)  # a few chosen answers fill no usual batch
    batch_tokens = max(min(dial.batch_tokens, few), asked.policy.config.max_seq_len)
    training = chat_finetuning(config, batch_tokens=config.batch_tokens or batch_tokens)
    work.mkdir(exist_ok=True)
    kept = load_plan(work)
    plan = kept[1] if kept else resolve_plan(training, dial, splits.train, tuning=True)
    save_plan(work, asked.policy.config, plan)
    seed_everything(plan.seed)
    lesson = TaskBuilder("chat", splits, asked.policy.config, asked.tokenizer, training).under(plan)
    inputs = TrainingInputs("best_of_n", asked.policy, asked.tokenizer, lesson, plan, work)
    return run_training(inputs) | chart_rows(work), plan


def _sampled(asked: RLContext, config: BestOfNConfig, work: Path) -> tuple[np.ndarray, int]:
    """Rewards (P, N) of completions of every prompt, and how many prompts have a best one; those are written to
    `CHOSEN`. What an interrupted run sampled is taken as it is.
    """
    starts = range(0, len(asked.train), PROMPTS_AT_A_TIME)
    with progress("best_of_n: sampling", len(asked.train), "prompts") as bar:

        def sample(some: Sequence[int]) -> list[CachedRow]:
            rows = [_judged(asked, config, start) for start in some]
            best = np.concatenate([np.max(row["rewards"], axis=1) for row in rows])
            bar.advance(len(best), reward=f"{best.mean():.3f}")
            return rows

        found = cached_map(work / SAMPLED, list(starts), str, sample, batch_size=1)
    rewards = np.concatenate([np.array(row["rewards"]) for row in found])
    best = [Conversation(parse_messages(messages, SAMPLED)) for row in found for messages in row["chosen"]]
    usable = [conversation for conversation in best if conversation.messages[-1].content.strip()]
    if not usable:
        raise UserError(
            f"best_of_n: for none of {len(asked.train)} prompts one completion was better than another",
            "raise group_size or temperature, or take a reward that tells completions apart",
        )
    write_conversations(work / CHOSEN, usable)
    log(f"best_of_n: {len(usable)} of {len(rewards)} prompts have a best completion; tuning on those")
    return rewards, len(usable)


def _judged(asked: RLContext, config: BestOfNConfig, start: int) -> CachedRow:
    """Rewards of completions of the prompts from `start` on, and the chosen conversations: a function of the seed and
    the number alone.
    """
    part: list[RLPrompt] = asked.train[start : start + PROMPTS_AT_A_TIME]
    seed = derive_seed(config.seed, "best_of_n", start) % 2**63
    samples, _ = complete(asked.policy, asked.tokenizer, part, config, seed)
    paid = compute_rewards(asked.reward, samples) - config.truncation_penalty * np.array(
        [not s.ended for s in samples]
    )
    rewards = paid.reshape(len(part), -1)
    best = [to_conversation(sample).to_row()["messages"] for sample, _ in best_samples(samples, rewards)]
    return {"rewards": rewards.tolist(), "chosen": best}


def _shards(work: Path, model: Path) -> Path:
    """The chosen conversations as token shards; made once."""
    conversations, shards = work / "conversations", work / "shards"
    if not shards.exists():
        prepare_conversations([str(work / CHOSEN)], conversations, overwrite=True)
        make_conversation_shards(conversations, model, shards, overwrite=True)
    return shards
