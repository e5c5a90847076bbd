"""One side of `rollouts`: `SIDE METHOD FOLDER THREADS` trains the model of a folder for some phases of PPO or GRPO.

`engine` is Parakit as it is. `before` is as it was before it had the engine: it completes prompts by PyTorch's steps on a
contiguous cache, all rows of a batch together, other passes of PyTorch give the log-probabilities and values, and rows are
trees of up to twice the longest completion. The last line is a JSON object: seconds of a phase (its rollouts, rewards and
optimizer steps), of its completions, and the digest of their ids.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.peers.tuning_workload import plan_of
from parakit.alignment.config import GRPOConfig, PPOConfig, RLConfig
from parakit.alignment.rl import batches, rollouts
from parakit.alignment.rl.grpo import GRPO, GRPOObjective
from parakit.alignment.rl.ppo import PPO, PPOObjective
from parakit.alignment.rl.prompts import compile_prompts
from parakit.alignment.rl.rewards import parse_reward
from parakit.alignment.rl.rollout_source import PolicyRolloutSource
from parakit.checkpoints.loading import load_model
from parakit.data.conversations.conversation import Conversation, Message
from parakit.inference.generation import decoding
from parakit.inference.generation.sampling import Choice
from parakit.model.heads import ActorCritic, LanguageModel
from parakit.training.trainer import Trainer

N_PHASES, RATE = 3, 1e-6  # the first phase is not counted
QUESTIONS = (
    "Name three rivers of Europe and say where each of them ends.",
    "Why is the sky blue, and why is it red in the evening?",
    "Write four sentences about a lighthouse in a storm.",
    "How does a bicycle stay upright while it is ridden?",
)
SIZES: dict[str, Any] = {"max_new_tokens": 96, "minibatches": 1, "reward": "length=40", "kl_coef": 0.02}
CONFIGS: dict[str, RLConfig] = {
    "grpo": GRPOConfig(method="grpo", rollout_prompts=2, group_size=8, **SIZES),
    "ppo": PPOConfig(method="ppo", rollout_prompts=16, ppo_epochs=1, **SIZES),
}


def main(side: str, method: str, folder: Path, threads: int) -> dict[str, Any]:
    """Train, and return the figures."""
    torch.set_num_threads(threads)
    if side == "before":
        os.environ["PARAKIT_KERNELS"] = "off"
        decoding.runs_on_engine = lambda model: False  # type: ignore[assignment]
        rollouts.draws_as_trained = lambda policy: False
        rollouts.can_fuse_log_probs = lambda model, hidden: False
        rollouts.attends_by_segment = lambda config: False
        batches.shared_lengths = lambda input_ids, n_prompt: n_prompt
    seconds, ids = _watch_completions()
    trainer, config = _trainer(method, folder)
    ends = [time.perf_counter()]
    for number, _ in enumerate(trainer.steps()):
        if (number + 1) % config.steps_per_phase == 0:
            ends.append(time.perf_counter())
    phases = [end - start for start, end in itertools.pairwise(ends[1:])]
    return {
        "step": sum(phases) / len(phases) / config.steps_per_phase,
        "completions": sum(seconds[1:]) / len(phases) / config.steps_per_phase,
        "n_tokens": sum(map(len, ids[0])),
        "digest": hashlib.sha256(json.dumps(ids[0]).encode()).hexdigest(),
    }


def _watch_completions() -> tuple[list[float], list[list[list[int]]]]:
    """Seconds and ids of every phase's completions, filled while the run goes on."""
    seconds: list[float] = []
    found: list[list[list[int]]] = []
    generate = rollouts.generate_choices

    def generate_choices(*args: Any, **settings: Any) -> list[list[Choice]]:
        started = time.perf_counter()
        completions = generate(*args, **settings)
        seconds.append(time.perf_counter() - started)
        found.append([[choice.token_id for choice in completion] for completion in completions])
        return completions

    rollouts.generate_choices = generate_choices
    return seconds, found


def _trainer(method: str, folder: Path) -> tuple[Trainer, RLConfig]:
    policy, tokenizer = load_model(folder, dtype="float32")
    assert isinstance(policy, LanguageModel)
    assert tokenizer is not None
    config = CONFIGS[method]
    turns = [
        Conversation((Message("user", f"{question} ({n})"),)) for n in range(4) for question in QUESTIONS
    ]
    prompts = compile_prompts(tokenizer, turns, 256, "the questions")
    reference = rollouts.frozen_copy(policy)
    trained = ActorCritic(policy) if method == "ppo" else policy
    algorithm: Any
    objective: Any
    if isinstance(config, GRPOConfig):
        algorithm = GRPO(config)
        objective = GRPOObjective(config, algorithm.kl_controller)
    else:
        assert isinstance(config, PPOConfig)
        algorithm, objective = PPO(config), PPOObjective(config)

    def sample(some: Any, phase: int, part: slice) -> Any:
        settings = (config, phase, algorithm.needs_values)
        return rollouts.roll_out(trained, reference, tokenizer, some, *settings, part=part)

    reward = parse_reward(config.reward or "", "cpu")
    source = PolicyRolloutSource(prompts, sample, reward, algorithm, objective.metrics, config)
    plan = plan_of(config.n_rows, N_PHASES * config.steps_per_phase, RATE)
    return Trainer(trained, source, objective, plan, folder=None), config


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
