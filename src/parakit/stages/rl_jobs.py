"""Reinforcement learning on the model's own completions: PPO and GRPO on the one training loop.

Policy and frozen reference start as copies of the model. The policy is written without PPO's value head, which is in the
checkpoints only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from parakit.alignment.config import GRPOConfig, PPOConfig, RLConfig, RolloutConfig
from parakit.alignment.data_checks import check_rollout_prompts
from parakit.alignment.rl.grpo import GRPO, GRPOObjective
from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.overoptimization import OveroptimizationMonitor
from parakit.alignment.rl.policy_eval import evaluate_policy, greedy_samples
from parakit.alignment.rl.ppo import PPO, PPOObjective
from parakit.alignment.rl.prompts import RLPrompt, read_prompts
from parakit.alignment.rl.reward import Reward, check_prompts
from parakit.alignment.rl.rewards import parse_reward
from parakit.alignment.rl.rollout_source import PolicyRolloutSource
from parakit.alignment.rl.rollouts import Rollouts, frozen_copy, roll_out
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import LINEAGE
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, sha256_file
from parakit.common.processes import from_first
from parakit.common.progress import log
from parakit.common.seeds import seed_everything
from parakit.data.conversations.conversation import Conversation
from parakit.data.splits import split_of
from parakit.inference.capabilities import require_capability
from parakit.model.heads import ActorCritic, LanguageModel
from parakit.model.quantized import weight_like
from parakit.stages.comparison.measuring import Comparison, plan_comparison
from parakit.stages.comparison.prompts import MAX_PROMPT_TOKENS, HeldOutPrompt
from parakit.stages.defaults.published import PUBLISHED_FACTORS, tuning_config, tuning_sizing
from parakit.stages.job import PreparedRun
from parakit.stages.run_dir import load_plan, save_plan
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan, resolve_examples
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.metrics import METRICS, read_metrics
from parakit.training.precision import Precision
from parakit.training.tasks import TASKS, TrainingTask
from parakit.training.trainer import train

RL_RATE_FACTOR = 0.05  # of the pre-training rate; see docs/log.md, 2026-11-25
MAX_ZERO_VARIANCE = 0.8  # share of groups; above it a warning is logged
MAX_HELD_OUT_PROMPTS = 128
HELD_OUT = 0.1  # of the prompts in a file without splits


@dataclass(frozen=True)
class RLContext:
    """A policy, its prompts and its rewards."""

    policy: LanguageModel
    tokenizer: Tokenizer
    train: list[RLPrompt]
    held_out: list[RLPrompt]
    reward: Reward
    monitor_rewards: tuple[Reward, ...] = ()
    """Further rewards that are measured on held-out prompts and not trained on."""


def prepare_rl(model: Path, prompts: Path, config: RLConfig, run_dir: Path) -> PreparedRun:
    """The training run of a policy with `ppo` or `grpo`."""
    context = load_context(model, prompts, config)
    saved = load_plan(run_dir)
    plan = saved[1] if saved else resolve_rl_plan(model, config, context)
    save_plan(run_dir, context.policy.config, plan)
    seed_everything(plan.seed)
    setup, summarize = _setup(context, config, plan, run_dir)
    parents = [model, prompts, Path(config.reward or "")]
    settings = {"reward": config.reward}
    return PreparedRun(
        "align",
        config.method,
        setup,
        parents,
        True,
        settings,
        summarize,
        saved_model=context.policy,
        comparison=compare_policy(context, config),
    )


def compare_policy(context: RLContext, config: RolloutConfig) -> Comparison:
    """What is measured before and after next to the rewards: the general text, and answers to held-out prompts."""
    prompts = [
        HeldOutPrompt(prompt.messages[-1].content, prompt.token_ids, is_chat=True)
        for prompt in context.held_out
        if len(prompt.token_ids) <= MAX_PROMPT_TOKENS
    ]
    return plan_comparison(config, context.policy, context.tokenizer, prompts, validates=False)


def load_context(model: Path, prompts: Path, config: RolloutConfig) -> RLContext:
    """The policy in float32 without dropout, its prompts and its rewards; `UserError` where they do not fit."""
    if config.reward is None:
        raise UserError(
            f"{config.method}: no reward is set", "name one, such as --reward final_answer, or a reward model"
        )
    policy, tokenizer = load_model(model, pick_device(config.device), "float32")
    require_capability(policy, "generate")
    assert isinstance(policy, LanguageModel)
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{model}: has no chat template, so it cannot be prompted", "align a model tuned for chat"
        )
    max_prompt = policy.config.max_seq_len - config.max_new_tokens
    if max_prompt < 1:
        raise UserError(
            f"max_new_tokens = {config.max_new_tokens} leaves no tokens for a prompt in a context window of"
            f" {policy.config.max_seq_len}",
            f"lower max_new_tokens to {max(1, policy.config.max_seq_len // 2)}",
        )
    without_dropout(policy)
    train_prompts, held_out = _split_prompts(prompts, tokenizer, max_prompt, config)
    doctor.raise_first_failure(check_rollout_prompts(train_prompts, tokenizer))
    reward, *monitor_rewards = (
        parse_reward(name, config.device) for name in (config.reward, *config.monitor_rewards)
    )
    for checked in (reward, *monitor_rewards):
        check_prompts(checked, [*train_prompts, *held_out])
    return RLContext(
        policy, tokenizer, train_prompts, held_out[:MAX_HELD_OUT_PROMPTS], reward, tuple(monitor_rewards)
    )


def without_dropout(model: nn.Module) -> None:
    """Disable dropout for good: probability ratios must compare weights, not dropout masks."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            setattr(module, "dropout", 0.0)  # noqa: B010 (attention's own rate)


def resolve_rl_plan(model: Path, config: RLConfig, context: RLContext) -> TrainingPlan:
    """The plan of a run. `epochs` are passes over the prompts."""
    sizing = tuning_sizing(model, context.policy.config)
    factor = PUBLISHED_FACTORS[config.method] if sizing.is_published else RL_RATE_FACTOR
    config = tuning_config(model, config)
    steps = config.max_steps
    if steps is None:
        phases = max(1, round((config.epochs or 1.0) * len(context.train) / config.rollout_prompts))
        steps = phases * config.steps_per_phase
    return resolve_examples(
        config.replace(max_steps=steps, epochs=None, compile="off"),
        learning_rate=sizing.learning_rate * factor,
        embedding_learning_rate=sizing.embedding_learning_rate * factor,
        max_seq_len=context.policy.config.max_seq_len,
        n_train_examples=config.n_rows,
        batch_examples=config.n_rows,
    )


def run_rl(context: RLContext, config: RLConfig, plan: TrainingPlan, run_dir: Path) -> JsonObject:
    """Train `context.policy` in place, with checkpoints in `run_dir`; returns the figures."""
    setup, summarize = _setup(context, config, plan, run_dir)
    return summarize(train(setup))


def measure_policy(context: RLContext, reference: LanguageModel, config: RolloutConfig) -> JsonObject:
    """Rewards and divergence from `reference` on the held-out prompts."""
    return evaluate_policy(
        context.policy,
        reference,
        context.tokenizer,
        context.held_out,
        context.reward,
        config,
        context.monitor_rewards,
    )


def _setup(
    context: RLContext, config: RLConfig, plan: TrainingPlan, run_dir: Path
) -> tuple[TrainingSetup, Callable[[JsonObject], JsonObject]]:
    """The training setup, and the function that adds to the trainer's figures."""
    policy, tokenizer, method = context.policy, context.tokenizer, config.method
    reference = frozen_copy(policy)
    trained: LanguageModel | ActorCritic = ActorCritic(policy) if method == "ppo" else policy
    algorithm, objective = _algorithm(config)
    precision = Precision(plan.precision, weight_like(policy.lm_head).device)

    def sample(prompts: Sequence[RLPrompt], phase: int, part: slice) -> tuple[Rollouts, np.ndarray]:
        settings = (config, phase, algorithm.needs_values, precision.autocast, part)
        return roll_out(trained, reference, tokenizer, prompts, *settings)

    source = PolicyRolloutSource(context.train, sample, context.reward, algorithm, objective.metrics, config)

    before = from_first("before", lambda: measure_policy(context, reference, config))
    monitor = OveroptimizationMonitor(
        method, before, config, isinstance(context.reward, ModelReward), run_dir
    )
    task = TrainingTask(
        TASKS[method],
        source,
        None,
        objective,
        validate=lambda _: monitor.check(measure_policy(context, reference, config)),
        step_metrics=source.step_metrics,
        should_stop=source.should_stop,
    )
    samples = from_first("samples", lambda: sample_examples(context, config))
    n_phases = -(-plan.max_steps // config.steps_per_phase)
    log(
        f"{method}: {n_phases} phases of {config.n_rollouts} completions ({config.rollout_prompts} prompts),"
        f" {config.steps_per_phase} steps each; reward {context.reward.name} {before['reward']:.3f} before"
    )

    def summarize(figures: JsonObject) -> JsonObject:
        max_steps = figures["plan"]["max_steps"]
        stopped = figures["steps"] < max_steps
        if stopped:
            log(
                f"{method}: ended after step {figures['steps']} of {max_steps}: beyond kl_limit ="
                f" {config.kl_limit}"
            )
        figures |= {"task": "chat", "method": method, "reward_name": context.reward.name}
        figures |= {"before": before, "warnings": monitor.warnings()}
        figures |= {"ended_by": "kl_limit" if stopped else "max_steps"}
        after = from_first("samples", lambda: sample_examples(context, config))
        figures |= {"samples": pair_samples(samples, after)}
        figures |= {"rollout_seconds": source.seconds, "settings": config.model_dump(mode="json")}
        return figures | (
            {"zero_variance_groups": _zero_variance_groups(run_dir)} if method == "grpo" else {}
        )

    return TrainingSetup(method, trained, tokenizer, task, plan, run_dir), summarize


def _zero_variance_groups(run_dir: Path) -> float:
    """The share of a run's groups with equal rewards; a high one is logged."""
    shares = [
        row["zero_variance_groups"]
        for row in read_metrics(run_dir / METRICS)
        if "zero_variance_groups" in row
    ]
    share = sum(shares) / len(shares) if shares else 0.0
    if share > MAX_ZERO_VARIANCE:
        log(
            f"grpo: in {share:.0%} of the groups all completions had the same reward, and gave no gradient; try harder"
            " or easier prompts, a higher temperature, or a reward that tells completions apart"
        )
    return share


def _algorithm(config: RLConfig) -> tuple[PPO | GRPO, PPOObjective | GRPOObjective]:
    """The algorithm that computes advantages, and its objective."""
    if isinstance(config, PPOConfig):
        return PPO(config), PPOObjective(config)
    assert isinstance(config, GRPOConfig)
    algorithm = GRPO(config)
    return algorithm, GRPOObjective(config, algorithm.kl_controller)


def sample_examples(context: RLContext, config: RolloutConfig) -> list[JsonObject]:
    """The present policy's completions of a few held-out prompts."""
    return greedy_samples(context.policy, context.tokenizer, context.held_out, context.reward, config)


def pair_samples(before: list[JsonObject], after: list[JsonObject]) -> list[JsonObject]:
    """Each sample from before training with the one after."""
    return [
        {"prompt": old["prompt"], "before": old["completion"], "after": new["completion"],
         "reward_before": old["reward"], "reward_after": new["reward"]}
        for old, new in zip(before, after, strict=True)
    ]  # fmt: skip


def _split_prompts(
    prompts: Path, tokenizer: Tokenizer, max_prompt: int, config: RolloutConfig
) -> tuple[list[RLPrompt], list[RLPrompt]]:
    """Prompts to train on and held-out ones; those of a file are split by their digests."""

    def read(split: str) -> list[RLPrompt]:
        return read_prompts(prompts, tokenizer, max_prompt, split, config.too_long, config.max_new_tokens)

    if (prompts / LINEAGE).is_file():
        train_prompts = read("train")
        held_out: list[RLPrompt] = []
        with contextlib.suppress(UserError):  # a folder may have no validation split
            held_out = read("validation")
    else:
        all_prompts = read("train")
        train_prompts = [prompt for prompt in all_prompts if _split(prompt) == "train"]
        held_out = [prompt for prompt in all_prompts if _split(prompt) != "train"]
        train_prompts = train_prompts or all_prompts
    if not held_out:
        log(f"{prompts}: has no held-out prompts; the training prompts are measured on")
    return train_prompts, held_out or train_prompts


def prompts_fingerprint(prompts: Path) -> str:
    """The digest of a file; the path of a folder."""
    is_file = prompts.is_file() and not (prompts / LINEAGE).is_file()
    return sha256_file(prompts) if is_file else str(prompts)


def _split(prompt: RLPrompt) -> str:
    return split_of(Conversation(prompt.messages).digest, HELD_OUT, 0.0)
