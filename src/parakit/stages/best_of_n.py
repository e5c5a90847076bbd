"""Rejection sampling as a job: sample, keep the best completions, fine-tune on them as on any conversations.

The chosen conversations are written to the model folder (`training/chosen.jsonl`), so that they can be read and used
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from parakit.alignment.config import BestOfNConfig
from parakit.alignment.jsonl_cache import CachedRow, cached_map
from parakit.alignment.rl.best_of_n import best_of_n_curve, best_samples
from parakit.alignment.rl.prompts import RLPrompt
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rollouts import complete, frozen_copy
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log, progress
from parakit.common.seeds import derive_seed, seed_everything
from parakit.data.conversations.conversation import parse_conversation, write_conversations
from parakit.data.conversations.sets import prepare_conversations
from parakit.data.readers.tracked_row import TrackedRow
from parakit.stages.config import chat_finetune_config
from parakit.stages.data import make_conversation_shards
from parakit.stages.defaults.published import tuning_config, tuning_sizing
from parakit.stages.job import PreparedRun
from parakit.stages.plans import resolve_plan
from parakit.stages.rl_jobs import (
    RLContext,
    compare_policy,
    load_context,
    measure_policy,
    pair_samples,
    sample_examples,
)
from parakit.stages.run_dir import load_plan, save_plan
from parakit.stages.tasks import Splits, TaskBuilder
from parakit.tokens.shards import TokenShards
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.pace import TimeBudget
from parakit.training.tasks import TaskSettings

PROMPTS_AT_A_TIME = 16  # sampled between two progress updates, and cached together
MIN_STEPS_PER_EPOCH = 8
SAMPLING_SHARE = 0.5  # of the time, where it is given
SAMPLED, TUNING, CHOSEN = "step-1-sampled.jsonl", "step-2-tuning", "chosen.jsonl"


def prepare_best_of_n(
    model: Path, prompts: Path, config: BestOfNConfig, run_dir: Path, budget: TimeBudget | None = None
) -> PreparedRun:
    """Sample, choose, and set up fine-tuning on the chosen; the figures include the curve over n."""
    context = load_context(model, prompts, config)
    reference = frozen_copy(context.policy)
    before, samples = measure_policy(context, reference, config), sample_examples(context, config)
    rewards, n_chosen = _sample(context, config, run_dir, budget)
    setup = _setup(model, config, context, _shards(run_dir, model), run_dir / TUNING)

    def summarize(figures: JsonObject) -> JsonObject:
        figures |= measure_policy(context, reference, config)
        figures |= {"task": "chat", "method": "best_of_n", "reward_name": context.reward.name}
        figures |= {"before": before, "curve": best_of_n_curve(rewards), "n_chosen": n_chosen}
        figures |= {"n_prompts": len(rewards)}
        figures |= {"samples": pair_samples(samples, sample_examples(context, config))}
        return figures | {"settings": config.model_dump(mode="json")}

    parents = [model, prompts, Path(config.reward or "")]
    settings, logs = {"reward": config.reward}, (run_dir / CHOSEN,)
    run = PreparedRun("align", "best_of_n", setup, parents, True, settings, summarize, logs=logs)
    return replace(run, comparison=compare_policy(context, config))


def _setup(
    model: Path, config: BestOfNConfig, context: RLContext, shards: Path, run_dir: Path
) -> TrainingSetup:
    """Fine-tune the policy on the chosen conversations as `parakit finetune` does."""
    model_config = context.policy.config
    splits, sizing = Splits.of_text(shards, "decoder"), tuning_sizing(model, model_config)
    assert isinstance(splits.train, TokenShards)
    max_batch_tokens = max(2, splits.train.n_tokens // MIN_STEPS_PER_EPOCH)  # few answers: smaller batches
    batch_tokens = config.batch_tokens
    if batch_tokens is None and not sizing.is_published:
        batch_tokens = max(min(sizing.batch_tokens, max_batch_tokens), model_config.max_seq_len)
    training = tuning_config(model, chat_finetune_config(config, batch_tokens=batch_tokens))
    run_dir.mkdir(exist_ok=True)
    saved = load_plan(run_dir)
    plan = saved[1] if saved else resolve_plan(training, sizing, splits.train, tuning=True)
    save_plan(run_dir, model_config, plan)
    seed_everything(plan.seed)
    task = TaskBuilder("chat", splits, model_config, context.tokenizer, TaskSettings()).build(plan)
    return TrainingSetup("best_of_n", context.policy, context.tokenizer, task, plan, run_dir)


def _sample(
    context: RLContext, config: BestOfNConfig, run_dir: Path, budget: TimeBudget | None
) -> tuple[np.ndarray, int]:
    """Rewards (P, N) of completions of every prompt, or of those that half of the time is enough for, and how many
    prompts have a best one; those are written to `CHOSEN`. An interrupted run resumes from its cache.
    """
    starts = range(0, len(context.train), PROMPTS_AT_A_TIME)
    has_time = budget.lasts(SAMPLING_SHARE) if budget else lambda: True
    with progress("best_of_n: sampling", len(context.train), "prompts") as bar:

        def sample(starts: Sequence[int]) -> list[CachedRow]:
            rows = [_complete(context, config, start) for start in starts]
            best = np.concatenate([np.max(row["rewards"], axis=1) for row in rows])
            bar.advance(len(best), reward=f"{best.mean():.3f}")
            return rows

        rows = cached_map(run_dir / SAMPLED, list(starts), str, sample, chunk_size=1, has_time=has_time)
    rewards = np.concatenate([np.array(row["rewards"]) for row in rows])
    best = [parse_conversation(TrackedRow(chosen, SAMPLED)) for row in rows for chosen in row["chosen"]]
    usable = [conversation for conversation in best if conversation.messages[-1].content.strip()]
    if not usable:
        raise UserError(
            f"best_of_n: for none of {len(context.train)} prompts one completion was better than another",
            "raise group_size or temperature, or take a reward that tells completions apart",
        )
    write_conversations(run_dir / CHOSEN, usable)
    if len(rewards) < len(context.train):
        log(f"best_of_n: {len(rewards)} of {len(context.train)} prompts were sampled in the time")
    log(f"best_of_n: {len(usable)} of {len(rewards)} prompts have a best completion; tuning on those")
    return rewards, len(usable)


def _complete(context: RLContext, config: BestOfNConfig, start: int) -> CachedRow:
    """Rewards of completions of the prompts from `start` on, and the chosen conversations: a pure function of the seed
    and the number.
    """
    prompts: list[RLPrompt] = context.train[start : start + PROMPTS_AT_A_TIME]
    seed = derive_seed(config.seed, "best_of_n", start) % 2**63
    samples, _ = complete(context.policy, context.tokenizer, prompts, config, seed)
    truncated = np.array([not sample.ended for sample in samples])
    rewards = compute_rewards(context.reward, samples) - config.truncation_penalty * truncated
    rewards = rewards.reshape(len(prompts), -1)
    best = [sample.conversation().to_row() for sample, _ in best_samples(samples, rewards)]
    return {"rewards": rewards.tolist(), "chosen": best}


def _shards(run_dir: Path, model: Path) -> Path:
    """The chosen conversations as token shards; made once."""
    conversations, shards = run_dir / "conversations", run_dir / "shards"
    if not shards.exists():
        prepare_conversations([str(run_dir / CHOSEN)], conversations, overwrite=True)
        make_conversation_shards(conversations, model, shards, overwrite=True)
    return shards
