"""Alignment by a model's own completions: ppo and grpo on the one training loop.

The policy starts as the model that is aligned, and so does its frozen reference. What is written is the plain
policy; PPO's value head stays in the checkpoints.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from parakit.alignment.rl.rollouts import frozen_copy, roll_out
from parakit.checkpoints.model_folder import load_model, save_model
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import sha256_file
from parakit.common.progress import log
from parakit.common.seeds import seed_everything
from parakit.data.splits import split_of
from parakit.inference.capabilities import require_capability
from parakit.model.heads import ActorCritic, LanguageModel
from parakit.model.presets import default_hyperparameters
from parakit.reports.model_card import stage_card
from parakit.stages.run_dir import load_plan, run_directory, save_plan
from parakit.stages.running import TrainingInputs, chart_rows, run_training
from parakit.stages.tasks import Lesson
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan, resolve_examples
from parakit.training.metrics import EVENTS, METRICS, read_metrics
from parakit.training.precision import Precision

if TYPE_CHECKING:
    from parakit.stages.alignment import AlignJob

LEARNING_RATE_SHARE = 0.05  # of what pre-training takes; see docs/log.md, 2026-11-25
MOST_EQUAL = 0.8  # of the groups, above which a run says that it was taught little
N_MEASURED = 128  # held-out prompts at most
HELD_OUT = 0.1  # of the prompts in a file that has no splits


@dataclass(frozen=True)
class RLContext:
    """What a policy starts from and is asked."""

    policy: LanguageModel
    tokenizer: Tokenizer
    train: list[RLPrompt]
    held_out: list[RLPrompt]
    reward: Reward
    monitor_rewards: tuple[Reward, ...] = ()
    """Other judges of held-out prompts, which nothing is trained on."""


def rl_job(job: AlignJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Run `ppo` or `grpo` and write the policy to the model folder `out`; returns the figures."""
    config = job.training
    assert isinstance(config, RLConfig)
    with run_directory(job.work, job.training, [job.model], job_spec(job)) as work:
        asked = load_context(job, config)
        kept = load_plan(work)
        plan = kept[1] if kept else plan_online(config, asked)
        save_plan(work, asked.policy.config, plan)
        seed_everything(plan.seed)
        figures = run_rl(asked, config, plan, work)
        save_policy(
            job,
            asked,
            out,
            overwrite,
            config.method,
            plan.model_dump(mode="json"),
            figures,
            [work / METRICS, work / EVENTS],
        )
    return figures


def job_spec(job: AlignJob) -> dict[str, Any]:
    """What decides a run's result besides its settings and its model."""
    return {"data": _data_identity(job.data)}


def load_context(job: AlignJob, config: RolloutConfig) -> RLContext:
    """The policy in float32 without dropout, its prompts and its reward; `UserError` where they do not fit."""
    if config.reward is None:
        raise UserError(
            f"{job.method}: no reward was named", "name one, such as --reward final_answer, or a reward model"
        )
    policy, tokenizer = load_model(job.model, pick_device(job.training.device), "float32")
    require_capability(policy, "generate")
    assert isinstance(policy, LanguageModel)
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{job.model}: has no chat template, so it cannot be asked", "align a model tuned for chat"
        )
    room = policy.config.max_seq_len - config.max_new_tokens
    if room < 1:
        raise UserError(
            f"max_new_tokens = {config.max_new_tokens} leaves no room for a prompt in a context window of"
            f" {policy.config.max_seq_len}",
            f"lower it below {policy.config.max_seq_len // 2}",
        )
    without_dropout(policy)
    train, held_out = _prompts(job.data, tokenizer, room)
    doctor.raise_first_failure(check_rollout_prompts(train, tokenizer))
    reward, *monitor_rewards = (
        parse_reward(name, job.training.device) for name in (config.reward, *config.monitor_rewards)
    )
    for one in (reward, *monitor_rewards):
        check_prompts(one, [*train, *held_out])
    return RLContext(policy, tokenizer, train, held_out[:N_MEASURED], reward, tuple(monitor_rewards))


def without_dropout(model: nn.Module) -> None:
    """Switch it off for good: the ratio of probabilities must compare weights, not which units were dropped."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            setattr(module, "dropout", 0.0)  # noqa: B010 (attention's own rate)


def plan_online(config: RLConfig, asked: RLContext) -> TrainingPlan:
    """How many steps, at which rate. `epochs` are passes over the prompts."""
    dial = default_hyperparameters(asked.policy.config)
    steps = config.max_steps
    if steps is None:
        phases = max(1, round((config.epochs or 1.0) * len(asked.train) / config.rollout_prompts))
        steps = phases * config.steps_per_phase
    return resolve_examples(
        config.replace(max_steps=steps, epochs=None, compile="off"),
        learning_rate=dial.learning_rate * LEARNING_RATE_SHARE,
        embedding_learning_rate=dial.embedding_learning_rate * LEARNING_RATE_SHARE,
        max_seq_len=asked.policy.config.max_seq_len,
        n_train_examples=config.n_rows,
        batch_examples=config.n_rows,
    )


def save_policy(
    job: AlignJob,
    asked: RLContext,
    out: Path,
    overwrite: bool,
    learned: str,
    plan: dict[str, Any],
    figures: dict[str, Any],
    logs: list[Path],
) -> None:
    """Write the policy as a model folder, with its lineage and card."""
    reward = job.training.reward if isinstance(job.training, RolloutConfig) else None
    parents = [path for path in (job.model, job.data, Path(reward or "")) if (path / LINEAGE).is_file()]
    settings = {"stage": "align", "learned": learned, "chat": True, "reward": reward, "plan": plan}
    lineage = Lineage("model", settings, list(parents), job.training.seed, figures)
    card = stage_card(out.resolve().parent.name, "align", figures)
    save_model(asked.policy, asked.tokenizer, out, lineage, overwrite, card=card, logs=logs)
    log(f"{learned}: written to {out}")


def run_rl(asked: RLContext, config: RLConfig, plan: TrainingPlan, work: Path) -> dict[str, Any]:
    """Train `asked.policy` in place, with checkpoints in `work`; returns the figures."""
    policy, tokenizer, method = asked.policy, asked.tokenizer, config.method
    reference = frozen_copy(policy)
    trained: Any = ActorCritic(policy) if method == "ppo" else policy
    algorithm, objective = _algorithm(config)
    precision = Precision(plan.precision, policy.lm_head.weight.device)

    def roll(prompts: Any, phase: int) -> Any:
        return roll_out(
            trained, reference, tokenizer, prompts, config, phase, algorithm.needs_values, precision.autocast
        )

    source = PolicyRolloutSource(asked.train, roll, asked.reward, algorithm, objective.metrics, config)

    def measured() -> dict[str, Any]:
        return evaluate_policy(
            policy, reference, tokenizer, asked.held_out, asked.reward, config, asked.monitor_rewards
        )

    before = measured()
    monitor = OveroptimizationMonitor(method, before, config, isinstance(asked.reward, ModelReward), work)
    lesson = Lesson(
        kind=method,
        source=source,
        data=None,
        objective=objective,
        loss_unit="less the mean reward",
        measure=lambda _: monitor.check(measured()),
        unit="completions",
        step_figures=source.step_metrics,
        should_stop=source.should_stop,
        primary_metric="reward",
        secondary_metric="kl",
    )
    shown = sample_examples(asked, config)
    n_phases = -(-plan.max_steps // config.steps_per_phase)
    log(
        f"{method}: {n_phases} phases of {config.n_rollouts} completions ({config.rollout_prompts} prompts),"
        f" {config.steps_per_phase} steps each; reward {asked.reward.name} {before['reward']:.3f} before"
    )
    figures = run_training(TrainingInputs(method, trained, tokenizer, lesson, plan, work))
    figures |= chart_rows(work) | {"task": "chat", "method": method, "reward_name": asked.reward.name}
    figures["before"], figures["warnings"] = before, monitor.warnings()
    figures["ended_by"] = "kl_limit" if figures["steps"] < plan.max_steps else "max_steps"
    if figures["ended_by"] == "kl_limit":
        log(
            f"{method}: ended after step {figures['steps']} of {plan.max_steps}: beyond kl_limit = {config.kl_limit}"
        )
    figures["samples"] = pair_samples(shown, sample_examples(asked, config))
    figures["rollout_seconds"] = source.seconds
    figures["settings"] = config.model_dump(mode="json")
    return figures | ({"zero_variance_groups": _zero_variance_groups(work)} if method == "grpo" else {})


def _zero_variance_groups(work: Path) -> float:
    """The share of all groups of a run whose rewards were equal; it is said where that is most of them."""
    found = [
        row["zero_variance_groups"] for row in read_metrics(work / METRICS) if "zero_variance_groups" in row
    ]
    share = sum(found) / len(found) if found else 0.0
    if share > MOST_EQUAL:
        log(
            f"grpo: in {share:.0%} of the groups all completions had the same reward, and taught nothing; try harder or"
            " easier prompts, a higher temperature, or a reward that tells completions apart"
        )
    return share


def _algorithm(config: RLConfig) -> tuple[Any, Any]:
    """What makes lessons of rollouts, and the loss of those."""
    if isinstance(config, PPOConfig):
        return PPO(config), PPOObjective(config)
    assert isinstance(config, GRPOConfig)
    algorithm = GRPO(config)
    return algorithm, GRPOObjective(config, algorithm.kl_controller)


def sample_examples(asked: RLContext, config: RolloutConfig) -> list[dict[str, Any]]:
    """What the policy says, as it is now, to a few held-out prompts."""
    return greedy_samples(asked.policy, asked.tokenizer, asked.held_out, asked.reward, config)


def pair_samples(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples of before beside those of after."""
    return [
        {"prompt": old["prompt"], "before": old["completion"], "after": new["completion"],
         "reward_before": old["reward"], "reward_after": new["reward"]}
        for old, new in zip(before, after, strict=True)
    ]  # fmt: skip


def _prompts(data: Path, tokenizer: Tokenizer, room: int) -> tuple[list[RLPrompt], list[RLPrompt]]:
    """What is learned on, and what is measured on; a file's prompts are split by what they are."""
    if (data / LINEAGE).is_file():
        train = read_prompts(data, tokenizer, room, "train")
        held_out: list[RLPrompt] = []
        with contextlib.suppress(UserError):  # a folder may have no validation split
            held_out = read_prompts(data, tokenizer, room, "validation")
    else:
        every = read_prompts(data, tokenizer, room)
        train = [prompt for prompt in every if _split(prompt) == "train"]
        held_out = [prompt for prompt in every if _split(prompt) != "train"]
        train = train or every
    if not held_out:
        log(f"{data}: holds out no prompts; measured is on those that are learned on")
    return train, held_out or train


def _split(prompt: RLPrompt) -> str:
    from parakit.data.conversations.conversation import Conversation

    return split_of(Conversation(prompt.messages).digest, HELD_OUT, 0.0)


def _data_identity(data: Path) -> Any:
    if (data / LINEAGE).is_file() or not data.is_file():
        return str(data)
    return sha256_file(data)
