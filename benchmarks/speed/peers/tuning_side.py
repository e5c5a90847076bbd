"""Parakit's side of `against_trl`: `make FOLDER`, or `TASK FOLDER SEED` (sft, dpo, reward, grpo, given) on the folder that
was made. The seed is of sampling.

The last line is a JSON object: the loss of every step, and how many rows (conversations, pairs or completions) were learned
from in a second after the first step; of grpo also the mean reward and length of every step. `given` learns from
completions that are given, by grpo's loss.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.peers import tuning_workload as work
from benchmarks.speed.peers.tuning_shared import Clock, near_twelve_words
from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.alignment.rl.grpo import GRPO, GRPOObjective
from parakit.alignment.rl.prompts import SampledCompletion
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollout_source import PolicyRolloutSource
from parakit.alignment.rl.rollouts import frozen_copy, roll_out, score_rollouts
from parakit.checkpoints.loading import load_model
from parakit.data.conversations.conversation import read_conversations
from parakit.data.preferences import read_preferences
from parakit.data.row_report import RowReport
from parakit.model.layers.masks import supports_prefix_tree
from parakit.tokens.preferences.encoding import encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.loop import StepRecord
from parakit.training.objectives import next_token
from parakit.training.trainer import Trainer

Figures = dict[str, Any]


def main(task: str, folder: Path, seed: int = 0) -> Figures:
    """Train, and return the figures."""
    torch.set_num_threads(1)
    tasks: dict[str, Callable[[Path], Figures]] = {
        "sft": tune, "dpo": prefer, "reward": judge, "given": learn_given,
        "grpo": lambda place: roll(place, seed),
    }  # fmt: skip
    if task == "make":
        work.make(folder)
        return {}
    return tasks[task](folder)


def tune(folder: Path) -> Figures:
    """Fine-tuning on conversations, as `finetune` does it."""
    model, tokenizer = work.policy_of(folder, "lm")
    conversations = list(read_conversations(folder / work.CONVERSATIONS))
    with tempfile.TemporaryDirectory() as place:
        source = work.packed(Path(place) / "shards", tokenizer, conversations)
        plan = work.plan_of(int(source.rows_per_epoch), work.N_STEPS, work.LEARNING_RATE)
        return timed(Trainer(model, source, next_token, plan, folder=None), len(conversations))


def prefer(folder: Path) -> Figures:
    """DPO."""
    model, tokenizer = work.policy_of(folder, "lm")
    settings = work.settings_of(folder)
    source = _pairs(folder, settings, tokenizer, model)
    source.reference = reference_log_probs(model, source)
    return _on_pairs(model, settings, source, PreferenceObjective("dpo", settings["dpo_kl_coef"]))


def judge(folder: Path) -> Figures:
    """A reward model."""
    model, tokenizer = load_model(folder / "rm")
    settings = work.settings_of(folder)
    return _on_pairs(model, settings, _pairs(folder, settings, tokenizer, model), RewardObjective())


def _pairs(folder: Path, settings: Figures, tokenizer: Any, model: Any) -> PreferenceSource:
    rankings = (ranking for _, ranking in read_preferences(folder / work.PAIRS, RowReport()))
    data = encode_rankings(tokenizer, rankings, settings["max_seq_len"])
    return PreferenceSource(
        data, 0, n_rows_hint=settings["n_rows"], share_prompts=supports_prefix_tree(model.config)
    )


def _on_pairs(model: Any, settings: Figures, source: PreferenceSource, objective: Any) -> Figures:
    n_rows = settings["n_rows"]
    plan = work.plan_of(n_rows, settings["n_steps"], settings["learning_rate"], settings["max_seq_len"])
    return timed(Trainer(model, source, objective, plan, folder=None), n_rows)


def roll(folder: Path, seed: int) -> Figures:
    """GRPO, one step for each phase of completions."""
    trainer, source = grpo_trainer(folder, work.GRPO_STEPS, work.GRPO.replace(seed=seed))
    rewards, lengths = [], []

    def look(_: StepRecord) -> None:
        assert source.experience is not None
        rewards.append(source.experience.metrics["reward"])
        lengths.append(source.experience.metrics["length"])

    return timed(trainer, work.GRPO.n_rollouts, look) | {"rewards": rewards, "lengths": lengths}


def learn_given(folder: Path) -> Figures:
    """GRPO's loss, some times over the same completions."""
    given = json.loads((folder / work.GIVEN).read_text(encoding="utf-8"))
    config = work.GRPO.replace(ppo_epochs=work.GRPO_EPOCHS)
    return timed(grpo_trainer(folder, work.GRPO_EPOCHS, config, given)[0], config.n_rollouts)


def grpo_trainer(
    folder: Path, n_steps: int, config: Any, given: Figures | None = None, rate: float = work.GRPO_RATE
) -> tuple[Trainer, PolicyRolloutSource]:
    """GRPO on the prompts of the folder, on its own completions or on those of `given`, and its source."""
    policy, tokenizer = work.policy_of(folder, "chat")
    reference, algorithm = frozen_copy(policy), GRPO(config)
    objective = GRPOObjective(config, algorithm.kl_controller)
    prompts = work.prompts_of(folder, tokenizer)

    def roll_given(prompts_of_phase: Sequence[Any], phase: int, part: slice) -> Any:
        if given is None:
            return roll_out(policy, reference, tokenizer, prompts_of_phase, config, phase, part=part)
        every = [prompt for prompt in prompts[: config.rollout_prompts] for _ in range(config.group_size)]
        samples = [
            SampledCompletion(prompt.messages, None, text)
            for prompt, text in zip(every, given["completions"], strict=True)
        ]
        return score_rollouts(policy, reference, every, samples, given["token_ids"])

    reward = FunctionReward("near_twelve_words", lambda sample: near_twelve_words(sample.completion))
    source = PolicyRolloutSource(prompts, roll_given, reward, algorithm, objective.metrics, config)
    plan = work.plan_of(config.n_rows, n_steps, rate)
    return Trainer(policy, source, objective, plan, folder=None), source


def timed(trainer: Trainer, n_rows: int, look: Callable[[StepRecord], None] | None = None) -> Figures:
    """Run to the end; `n_rows` are what one step learns from."""
    losses, clock = [], Clock()
    for record in trainer.steps():
        clock.step_ended()
        losses.append(record.loss)
        if look is not None:
            look(record)
    return {"losses": losses} | clock.speed(n_rows)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))))
