"""What following a learned reward does to the gold reward behind it, without a KL penalty and with each kind.

For every seed a reward model is trained on a few pairs (proxy.py); GRPO and PPO follow it from the same start, without
a KL penalty and with one, and on held-out prompts the proxy's reward, gold and the divergence are measured along the way.
Gold is monitored only (`parakit align --monitor-rewards`), and so is a second proxy, trained on other pairs. Best of
n needs no training: what it would bring by the proxy, and of that in gold, has an exact estimate. Rewards are in
standard deviations of the start's, from its mean.

Targets, set before the measured seeds ran, on runs of another: without a KL penalty gold falls by at least half a deviation
from its highest while the proxy rises; with every KL penalty it ends within a quarter of a deviation of its own highest,
and at least as much above the end without one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, kept_or_measured, summary
from benchmarks.pictures import draw_overoptimization
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.research.overoptimization.proxy import GOLD, MAX_NEW_TOKENS, Start, agreement, train_proxy
from parakit.alignment.config import AlignConfig, Method, RLConfig
from parakit.alignment.rl.best_of_n import expected_best, kl_bound
from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.overoptimization import MONITORED
from parakit.alignment.rl.reward import compute_rewards
from parakit.stages.rl_jobs import RLContext, resolve_rl_plan, run_rl

N_PAIRS, ERROR_RATE = 300, 0.1
N_SAMPLED = 64
N_MEASURED = 4  # answers to each held-out prompt, at every measurement
SIZES = tuple(2**k for k in range(7))
SECOND = 1000  # added to the seed of the second proxy's pairs
PHASES: dict[Method, int] = {
    "grpo": 32,
    "ppo": 16,
}  # of 128 completions; PPO takes 8 steps in each, GRPO 2
SHARED: dict[str, Any] = {
    "max_new_tokens": MAX_NEW_TOKENS,
    "optimizer": "adamw",
    "learning_rate": 5e-4,
    "schedule": "constant",
    "warmup_steps": 2,
}
METHODS: dict[Method, dict[str, Any]] = {
    "grpo": {"rollout_prompts": 16, "group_size": 8, "minibatches": 2},
    "ppo": {"rollout_prompts": 128, "minibatches": 4, "ppo_epochs": 2},
}
# Each run: its method, and how the divergence is held down.
RUNS: dict[str, tuple[Method, dict[str, Any]]] = {
    "grpo_no_kl": ("grpo", {"kl_coef": 0.0}),
    "grpo_fixed": ("grpo", {"kl_coef": 1.0}),
    "grpo_target": ("grpo", {"kl_coef": 0.5, "kl_target": 0.6}),
    "grpo_limit": ("grpo", {"kl_coef": 0.0, "kl_limit": 1.0}),
    "ppo_no_kl": ("ppo", {"kl_coef": 0.0}),
    "ppo_target": ("ppo", {"kl_coef": 1.0, "kl_target": 0.6}),
}
WITH_KL = {
    "grpo_fixed": "GRPO, kl_coef 1",
    "grpo_target": "GRPO, kl_target 0.6",
    "grpo_limit": "GRPO, kl_limit 1",
    "ppo_target": "PPO, kl_target 0.6",
}
PICTURE = ROOT / "docs" / "overoptimization.svg"


@benchmark("overoptimization", {
    "proxy.accuracy": (NO_TARGET, "accuracy of the reward model on answers of the start"),
    "best_of_n.gold_at_64": (NO_TARGET, "best of 64: gold reward"),
    "*_no_kl.gold_fall": (">= 0.5", "{0}, no KL penalty: fall of the gold reward from its highest"),
    "*_no_kl.proxy_rise_since": ("> 0", "{0}, no KL penalty: rise of the learned reward since"),
    **{f"{name}.gold_fall": ("<= 0.25", f"{words}: fall of the gold reward from its highest")
       for name, words in WITH_KL.items()},
    **{f"{name}.gold_above_no_kl": (">= 0.25", f"{words}: gold reward at the end above that without a KL penalty")
       for name, words in WITH_KL.items()},
    "*.gold_end": (NO_TARGET, "{0}: gold reward at the end"),
})  # fmt: skip
def overoptimization(*, model: Path, seeds: int = 5, work: Path | None = None) -> Figures:
    """`model` is a primer model tuned for chat; `work` keeps each seed's result."""
    rounds = []
    for seed in range(1, seeds + 1):
        path = work / f"seed-{seed}.json" if work else None
        rounds.append(kept_or_measured(path, partial(one_round, model, seed, PHASES)))
    draw_overoptimization(PICTURE, [found["points"] for found in rounds])
    return summed(rounds)


def summed(rounds: list[dict[str, Any]]) -> Figures:
    """Medians with spread of every figure, and of the first round the points."""
    figures: Figures = {}
    for part, first in rounds[0]["figures"].items():
        figures[part] = {name: summary([found["figures"][part][name] for found in rounds]) for name in first}
    figures["points"] = rounds[0]["points"]
    figures["warnings"] = rounds[0]["warnings"]
    return figures


def one_round(folder: Path, seed: int, n_phases: Mapping[Method, int]) -> dict[str, Any]:
    """A proxy, best of n by it, and every run; points are (phase, kl, proxy, gold, second proxy)."""
    start = Start.load(folder)
    with TemporaryDirectory() as work:
        proxy, second = (
            train_proxy(start, N_PAIRS, ERROR_RATE, seed + apart, Path(work) / name)
            for name, apart in (("proxy", 0), ("second", SECOND))
        )
        second.name = "second proxy"
        figures, points = best_of_n(start, proxy, seed)
        warnings: dict[str, Any] = {}
        for name, (method, kl_settings) in RUNS.items():
            found = train(folder, (proxy, second), method, kl_settings, seed, n_phases[method])
            points[name], warnings[name] = found["points"], found["warnings"]
            figures[name] = end_figures(points[name], warnings[name])
            figures[name]["processor_seconds"] = found["seconds"]
    for name, found in figures.items():
        if name in RUNS and not name.endswith("no_kl"):
            free = figures[f"{RUNS[name][0]}_no_kl"]
            found["gold_above_no_kl"] = found["gold_end"] - free["gold_end"]
    return {"figures": figures, "points": points, "warnings": warnings}


def best_of_n(start: Start, proxy: ModelReward, seed: int) -> tuple[Figures, dict[str, Any]]:
    """How often the proxy agrees with gold on answers of the start, and what the best of n by it brings."""
    samples = start.samples(start.held_out, N_SAMPLED, seed)
    learned, gold = (compute_rewards(reward, samples).reshape(-1, N_SAMPLED) for reward in (proxy, GOLD))
    line = []
    for n in SIZES:
        found = (expected_best(rewards, n, by=learned) for rewards in (learned, gold))
        values = (
            (value - all_.mean()) / all_.std() for value, all_ in zip(found, (learned, gold), strict=True)
        )
        line.append([n, kl_bound(n), *map(float, values)])
    figures: Figures = {"proxy": {"accuracy": agreement(learned, gold)}}
    figures["best_of_n"] = {"proxy_at_64": line[-1][2], "gold_at_64": line[-1][3]}
    return figures, {"best_of_n": line}


def train(
    folder: Path,
    proxies: tuple[ModelReward, ModelReward],
    method: Method,
    kl_settings: dict[str, Any],
    seed: int,
    n_phases: int,
) -> dict[str, Any]:
    """One run from the start, and its measurements."""
    start = Start.load(folder)
    settings = SHARED | METHODS[method] | kl_settings | {"seed": seed}
    config = AlignConfig.parse(settings | {"method": method})
    assert isinstance(config, RLConfig)
    every = config.steps_per_phase * max(1, n_phases // 15)
    config = config.replace(max_steps=n_phases * config.steps_per_phase, validate_every=every)
    held_out, (proxy, second) = start.held_out * N_MEASURED, proxies
    context = RLContext(start.model, start.tokenizer, start.train, held_out, proxy, (GOLD, second))
    began = time.process_time()
    with TemporaryDirectory() as work:
        found = run_rl(context, config, resolve_rl_plan(folder, config, context), Path(work))
    before, names = (
        found["before"],
        ["reward", *(f"{MONITORED}{judge.name}" for judge in context.monitor_rewards)],
    )
    spreads = ["reward_std", *(f"{name} std" for name in names[1:])]

    def point(row: dict[str, Any]) -> list[float]:
        deviations = (
            (row[name] - before[name]) / before[spread] for name, spread in zip(names, spreads, strict=True)
        )
        place = row.get("step", 0) / config.steps_per_phase
        return [round(value, 3) for value in (place, row["kl"], *deviations)]

    points = [point(row) for row in (before, *found["validations"])]
    warnings = [[row["warning"], row["step"] / config.steps_per_phase] for row in found["warnings"]]
    return {"points": points, "warnings": warnings, "seconds": time.process_time() - began}


def end_figures(points: list[list[float]], warnings: list[list[Any]]) -> Figures:
    """Where a run's gold reward was highest, and what became of it; all rewards in deviations from the start. The
    first warning is the first that was seen without gold, of which nobody has a judge; a run without one counts to its
    end.
    """
    kl, proxy, gold, second = np.array(points)[:, 1:].T
    best = int(gold.argmax())
    phases = [point[0] for point in points]
    first = min((phase for name, phase in warnings if name != f"{MONITORED}{GOLD.name}"), default=phases[-1])
    at_warning = phases.index(first)
    return {
        "gold_highest": float(gold[best]),
        "kl_at_highest": float(kl[best]),
        "gold_end": float(gold[-1]),
        "proxy_end": float(proxy[-1]),
        "second_proxy_fall": float(second.max() - second[-1]),
        "kl_end": float(kl[-1]),
        "gold_fall": float(gold[best] - gold[-1]),
        "proxy_rise_since": float(proxy[-1] - proxy[best]),
        "kl_at_first_warning": float(kl[at_warning]),
        "fall_at_first_warning": float(gold[: at_warning + 1].max() - gold[at_warning]),
    }
