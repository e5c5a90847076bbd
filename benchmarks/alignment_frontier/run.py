"""What reward each method gains at what distance: PPO, DPO, GRPO and best of n on a task whose true reward is known.

The policy is a tuned primer model; the gold reward (benchmarks/alignment_frontier/gold.py) is computed from prompt and
completion. Each method starts from the same model and prompts; along its run reward and divergence are measured in
fresh answers to these prompts (the divergence over the whole vocabulary at every token). Best of n needs no
training: its reward is the unbiased estimate, its divergence the bound log n - (n - 1) / n. Each seed runs in a
process of its own, on one thread, one method after the other; seconds are of the processor, and of the clock.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.alignment_frontier.course import Course
from benchmarks.alignment_frontier.gold import gold_of
from benchmarks.alignment_frontier.picture import draw
from benchmarks.alignment_frontier.preferring import preferred
from benchmarks.alignment_frontier.talker import MAX_NEW_TOKENS, talker_and_prompts
from benchmarks.harness import ROOT, SHOWN, Figures, report, summary
from parakit.alignment.config import AlignConfig
from parakit.alignment.rl.best_of_n import best_of_n_curve
from parakit.alignment.rl.config import OnlineMethod, online_config
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollouts import complete
from parakit.stages.rl_jobs import RLContext, plan_online, run_rl

SHARED: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "optimizer": "adamw",
    "schedule": "constant",
    "warmup_steps": 2,
}
SETTINGS: dict[OnlineMethod, dict[str, Any]] = {
    "ppo": {
        "rollout_prompts": 128,
        "minibatches": 4,
        "ppo_epochs": 2,
        "learning_rate": 5e-4,
        "kl_coef": 0.05,
    },
    "grpo": {
        "rollout_prompts": 16,
        "group_size": 8,
        "minibatches": 2,
        "learning_rate": 5e-4,
        "kl_coef": 0.02,
        "kl_limit": 8.5,
    },
}
METHODS = ("ppo", "dpo", "grpo", "best_of_n")
N_ANSWERS, N_SAMPLED = 2, 16
PICTURE = ROOT / "docs" / "alignment-frontier.svg"


def main(words: list[str]) -> None:
    """Run every method for every seed, write the result and the picture."""
    parser = argparse.ArgumentParser(prog="make bench NAME=alignment_frontier", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a primer model tuned for chat")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--phases", type=int, default=30, help="of rollouts, for each method")
    arguments = parser.parse_args(words)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _one_thread) as pool:
        runs = [
            pool.submit(_round, arguments.model, seed, arguments.phases) for seed in range(arguments.seeds)
        ]
        rounds = [run.result() for run in runs]
    figures: Figures = {}
    for method in METHODS:
        figures[method] = {
            name: summary([found[method]["figures"][name] for found in rounds])
            for name in rounds[0][method]["figures"]
        }
    lines = {method: rounds[0][method]["points"] for method in METHODS}
    figures["points"] = {
        name: [[round(value, 3) for value in point] for point in line] for name, line in lines.items()
    }
    draw(PICTURE, "Gold reward against divergence, first seed", "nats a completion", "gold reward", lines)
    bar = {f"{method}.gain_in_deviations": ">= 0.5" for method in lines}
    bar |= {f"{method}.kl": "<= 10" for method in lines}
    bar |= {f"{method}.processor_seconds": "<= 600" for method in lines}
    report("alignment_frontier", figures, bar | {"grpo.seconds": SHOWN})


def _one_thread() -> None:
    """In each process: seconds of the processor are then those of one core."""
    torch.set_num_threads(1)


def _round(folder: Path, seed: int, n_phases: int) -> dict[str, Any]:
    return {
        **{method: _learned(folder, method, seed, n_phases) for method in SETTINGS},
        "dpo": preferred(folder, _asked(folder), seed),
        "best_of_n": _best(folder, seed),
    }


def _asked(folder: Path) -> RLContext:
    """The model as it was tuned, and what is said to it. Measured is on the same prompts, in answers drawn apart."""
    model, tokenizer, prompts = talker_and_prompts(folder, "frontier")
    return RLContext(model, tokenizer, prompts, prompts * N_ANSWERS, FunctionReward("gold", gold_of))


def _learned(folder: Path, method: OnlineMethod, seed: int, n_phases: int) -> dict[str, Any]:
    asked = _asked(folder)
    settings = SHARED | SETTINGS[method] | {"seed": seed}
    config = online_config(AlignConfig.parse(settings), method)
    training = AlignConfig.parse(settings | {"max_steps": n_phases * config.steps_per_phase})
    course = Course()
    with TemporaryDirectory() as work:
        found = run_rl(method, asked, config, plan_online(training, config, asked), Path(work))
    return course.told(found["before"], found, found["validations"])


def _best(folder: Path, seed: int) -> dict[str, Any]:
    asked = _asked(folder)
    config = online_config(
        AlignConfig.parse({"max_new_tokens": MAX_NEW_TOKENS, "group_size": N_SAMPLED}), "best_of_n"
    )
    course = Course()
    samples, _ = complete(asked.policy, asked.tokenizer, asked.train, config, seed)
    rewards = compute_rewards(asked.reward, samples).reshape(-1, N_SAMPLED)
    line: Sequence[dict[str, float]] = best_of_n_curve(rewards)
    return {
        "points": [(point["kl_bound"], point["reward"]) for point in line],
        "figures": {
            "gain_in_deviations": (line[-1]["reward"] - line[0]["reward"]) / float(rewards.std()),
            "reward_before": line[0]["reward"],
            "reward": line[-1]["reward"],
            "kl": line[-1]["kl_bound"],
            **course.seconds(),
        },
    }
