"""What reward each method gains at what distance: PPO, DPO, GRPO and best of n on a task whose true reward is known.

The policy is a tuned primer model; the gold reward (benchmarks/alignment_frontier/gold.py) is computed from prompt and
completion. Each method starts from the same model and prompts; along its run reward and divergence are measured in
fresh answers to these prompts (the divergence over the whole vocabulary at every token). Best of n needs no
training: its reward is the unbiased estimate, its divergence the bound log n - (n - 1) / n. Each seed runs in a
process of its own, on one thread, one method after the other; seconds are of the processor, and of the clock.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import ROOT, summary
from benchmarks.pictures import draw_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.research.alignment_frontier.chat_model import MAX_NEW_TOKENS, load_model_and_prompts
from benchmarks.research.alignment_frontier.dpo_rounds import dpo_rounds
from benchmarks.research.alignment_frontier.gold import gold_of
from benchmarks.research.alignment_frontier.run_timer import RunTimer
from parakit.alignment.config import AlignConfig, BestOfNConfig, Method, RLConfig
from parakit.alignment.rl.best_of_n import best_of_n_curve
from parakit.alignment.rl.reward import compute_rewards
from parakit.alignment.rl.rewards import FunctionReward
from parakit.alignment.rl.rollouts import complete
from parakit.stages.rl_jobs import RLContext, resolve_rl_plan, run_rl

SHARED: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "optimizer": "adamw",
    "schedule": "constant",
    "warmup_steps": 2,
}
SETTINGS: dict[Method, dict[str, Any]] = {
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


@benchmark("alignment_frontier", {
    "*.gain_in_deviations": (">= 0.5", "{0}: gain of the gold reward in standard deviations"),
    "*.kl": ("<= 10", "{0}: divergence from the start, nats per completion"),
    "*.processor_seconds": ("<= 600", "{0}: processor seconds"),
    "grpo.seconds": (NO_TARGET, "grpo: seconds"),
})  # fmt: skip
def alignment_frontier(*, model: Path, seeds: int = 5, phases: int = 30) -> Figures:
    """`model` is a primer model tuned for chat; `phases` of rollouts for each method."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _one_thread) as pool:
        runs = [pool.submit(_round, model, seed, phases) for seed in range(seeds)]
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
    draw_lines(
        PICTURE, "Gold reward against divergence, first seed", "nats a completion", "gold reward", lines
    )
    return figures


def _one_thread() -> None:
    """In each process: seconds of the processor are then those of one core."""
    torch.set_num_threads(1)


def _round(folder: Path, seed: int, n_phases: int) -> dict[str, Any]:
    return {
        **{method: _train(folder, method, seed, n_phases) for method in SETTINGS},
        "dpo": dpo_rounds(folder, _context(folder), seed),
        "best_of_n": _best(folder, seed),
    }


def _context(folder: Path) -> RLContext:
    """The fine-tuned model and its prompts. The same prompts are measured, with other samples."""
    model, tokenizer, prompts = load_model_and_prompts(folder, "frontier")
    return RLContext(model, tokenizer, prompts, prompts * N_ANSWERS, FunctionReward("gold", gold_of))


def _train(folder: Path, method: Method, seed: int, n_phases: int) -> dict[str, Any]:
    context = _context(folder)
    settings = SHARED | SETTINGS[method] | {"seed": seed}
    config = AlignConfig.parse(settings | {"method": method})
    assert isinstance(config, RLConfig)
    config = config.replace(max_steps=n_phases * config.steps_per_phase)
    timer = RunTimer()
    with TemporaryDirectory() as work:
        found = run_rl(context, config, resolve_rl_plan(folder, config, context), Path(work))
    return timer.result(found["before"], found, found["validations"])


def _best(folder: Path, seed: int) -> dict[str, Any]:
    context = _context(folder)
    config = BestOfNConfig(max_new_tokens=MAX_NEW_TOKENS, group_size=N_SAMPLED)
    timer = RunTimer()
    samples, _ = complete(context.policy, context.tokenizer, context.train, config, seed)
    rewards = compute_rewards(context.reward, samples).reshape(-1, N_SAMPLED)
    line: Sequence[dict[str, float]] = best_of_n_curve(rewards)
    return {
        "points": [(point["kl_bound"], point["reward"]) for point in line],
        "figures": {
            "gain_in_deviations": (line[-1]["reward"] - line[0]["reward"]) / float(rewards.std()),
            "reward_before": line[0]["reward"],
            "reward": line[-1]["reward"],
            "kl": line[-1]["kl_bound"],
            **timer.seconds(),
        },
    }
