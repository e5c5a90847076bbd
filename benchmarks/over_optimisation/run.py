"""What following a learnt reward does to the gold reward behind it, without a leash and with each.

For every seed a reward model is learnt from a few pairs (proxy.py); GRPO and PPO follow it from the same start, without
a leash and with one, and on held-out prompts the proxy's reward, gold and the divergence are measured along the way.
Gold is monitored only (`parakit align --monitor-rewards`), and so is a second proxy, learnt from other pairs. Best of
n needs no training: what it would bring by the proxy, and of that in gold, has an exact estimate. Rewards are told in
standard deviations of the start's, from its mean.

Bars, set before the measured seeds ran, on runs of another: without a leash gold falls by at least half a deviation
from its highest while the proxy rises; with every leash it ends within a quarter of a deviation of its own highest,
and at least as much above the end without one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.harness import SHOWN, Figures, report, summary
from benchmarks.over_optimisation.picture import draw
from benchmarks.over_optimisation.proxy import GOLD, MAX_NEW_TOKENS, Start, agreement, learnt_proxy
from parakit.alignment.config import AlignConfig
from parakit.alignment.rl.best_of_n import expected_best, kl_bound
from parakit.alignment.rl.config import OnlineMethod, online_config
from parakit.alignment.rl.model_reward import ModelReward
from parakit.alignment.rl.overoptimization import MONITORED
from parakit.alignment.rl.reward import compute_rewards
from parakit.common.files import read_json, write_json_atomic
from parakit.stages.rl_jobs import RLContext, plan_online, run_rl

N_PAIRS, ERROR_RATE = 300, 0.1
N_SAMPLED = 64
N_MEASURED = 4  # answers to each held-out prompt, at every measurement
SIZES = tuple(2**k for k in range(7))
SECOND = 1000  # added to the seed of the second proxy's pairs
PHASES: dict[OnlineMethod, int] = {
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
METHODS: dict[OnlineMethod, dict[str, Any]] = {
    "grpo": {"rollout_prompts": 16, "group_size": 8, "minibatches": 2},
    "ppo": {"rollout_prompts": 128, "minibatches": 4, "ppo_epochs": 2},
}
# Each run: its method, and the leash.
RUNS: dict[str, tuple[OnlineMethod, dict[str, Any]]] = {
    "grpo_no_leash": ("grpo", {"kl_coef": 0.0}),
    "grpo_fixed": ("grpo", {"kl_coef": 1.0}),
    "grpo_target": ("grpo", {"kl_coef": 0.5, "kl_target": 0.6}),
    "grpo_limit": ("grpo", {"kl_coef": 0.0, "kl_limit": 1.0}),
    "ppo_no_leash": ("ppo", {"kl_coef": 0.0}),
    "ppo_target": ("ppo", {"kl_coef": 1.0, "kl_target": 0.6}),
}
FALL, KEPT, ABOVE = ">= 0.5", "<= 0.25", ">= 0.25"


def main(words: list[str]) -> None:
    """Every run for every seed; writes the result and the picture."""
    parser = argparse.ArgumentParser(prog="make bench NAME=over_optimisation", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a primer model tuned for chat")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--work", type=Path, help="keeps what each seed gave; begun again, they are taken as they are"
    )
    arguments = parser.parse_args(words)
    rounds = []
    for seed in range(1, arguments.seeds + 1):
        kept = arguments.work / f"seed-{seed}.json" if arguments.work else None
        if kept is None or not kept.exists():
            found = one_round(arguments.model, seed, PHASES)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_json_atomic(kept, found)
        rounds.append(read_json(kept) if kept else found)
    draw([found["points"] for found in rounds])
    report("over_optimisation", summed(rounds), bars())


def bars() -> dict[str, str]:
    """What must hold."""
    found = {"proxy.accuracy": SHOWN, "best_of_n.gold_at_64": SHOWN}
    for name in RUNS:
        if name.endswith("no_leash"):
            found |= {f"{name}.gold_fall": FALL, f"{name}.proxy_rise_since": "> 0"}
        else:
            found |= {f"{name}.gold_fall": KEPT, f"{name}.gold_above_no_leash": ABOVE}
        found |= {f"{name}.gold_end": SHOWN}
    return found


def summed(rounds: list[dict[str, Any]]) -> Figures:
    """Medians with spread of every figure, and of the first round the points."""
    figures: Figures = {}
    for part, first in rounds[0]["figures"].items():
        figures[part] = {name: summary([found["figures"][part][name] for found in rounds]) for name in first}
    figures["points"] = rounds[0]["points"]
    figures["warnings"] = rounds[0]["warnings"]
    return figures


def one_round(folder: Path, seed: int, n_phases: Mapping[OnlineMethod, int]) -> dict[str, Any]:
    """A proxy, best of n by it, and every run; points are (phase, kl, proxy, gold, second proxy)."""
    start = Start.load(folder)
    with TemporaryDirectory() as work:
        proxy, second = (
            learnt_proxy(start, N_PAIRS, ERROR_RATE, seed + apart, Path(work) / name)
            for name, apart in (("proxy", 0), ("second", SECOND))
        )
        second.name = "second proxy"
        figures, points = best_of_n(start, proxy, seed)
        warnings: dict[str, Any] = {}
        for name, (method, leash) in RUNS.items():
            found = followed(folder, (proxy, second), method, leash, seed, n_phases[method])
            points[name], warnings[name] = found["points"], found["warnings"]
            figures[name] = ended(points[name], warnings[name])
            figures[name]["processor_seconds"] = found["seconds"]
    for name, found in figures.items():
        if name in RUNS and not name.endswith("no_leash"):
            free = figures[f"{RUNS[name][0]}_no_leash"]
            found["gold_above_no_leash"] = found["gold_end"] - free["gold_end"]
    return {"figures": figures, "points": points, "warnings": warnings}


def best_of_n(start: Start, proxy: ModelReward, seed: int) -> tuple[Figures, dict[str, Any]]:
    """How often the proxy agrees with gold on answers of the start, and what the best of n by it brings."""
    samples = start.samples(start.held_out, N_SAMPLED, seed)
    ours, gold = (compute_rewards(reward, samples).reshape(-1, N_SAMPLED) for reward in (proxy, GOLD))
    line = []
    for n in SIZES:
        found = (expected_best(rewards, n, by=ours) for rewards in (ours, gold))
        values = ((value - all_.mean()) / all_.std() for value, all_ in zip(found, (ours, gold), strict=True))
        line.append([n, kl_bound(n), *map(float, values)])
    figures: Figures = {"proxy": {"accuracy": agreement(ours, gold)}}
    figures["best_of_n"] = {"proxy_at_64": line[-1][2], "gold_at_64": line[-1][3]}
    return figures, {"best_of_n": line}


def followed(
    folder: Path,
    proxies: tuple[ModelReward, ModelReward],
    method: OnlineMethod,
    leash: dict[str, Any],
    seed: int,
    n_phases: int,
) -> dict[str, Any]:
    """One run from the start, and its measurements."""
    start = Start.load(folder)
    settings = SHARED | METHODS[method] | leash | {"seed": seed}
    config = online_config(AlignConfig.parse(settings), method)
    every = config.steps_per_phase * max(1, n_phases // 15)
    length = {"max_steps": n_phases * config.steps_per_phase, "validate_every": every}
    held_out, (proxy, second) = start.held_out * N_MEASURED, proxies
    asked = RLContext(start.model, start.tokenizer, start.train, held_out, proxy, (GOLD, second))
    began = time.process_time()
    with TemporaryDirectory() as work:
        plan = plan_online(AlignConfig.parse(settings | length), config, asked)
        found = run_rl(method, asked, config, plan, Path(work))
    before, names = found["before"], ["reward", *(f"{MONITORED}{judge.name}" for judge in asked.watched)]
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


def ended(points: list[list[float]], warnings: list[list[Any]]) -> Figures:
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
