"""Warnings of reward overoptimization, from the metrics of an RL run.

A reward model is accurate on completions like those it was trained on. A policy that follows it leaves them: the
reward goes on rising while its quality falls (Gao et al. 2022, "Scaling laws for reward model overoptimization"), and
the reward itself does not show it. What does: the KL from the reference, completions that lose diversity, grow in
length or repeat themselves, rewards above all that the starting policy ever received, and a second reward that is
monitored but not optimised. Every warning compares evaluations on the same held-out prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.alignment.config import RLConfig
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.training.metrics import METRICS, read_metrics

MAX_KL = 10.0  # nats a completion
MAX_KL_RATIO = 2.0  # times kl_target
MIN_DISTINCT_RATIO = 0.5  # of the starting policy's share of distinct completions
MAX_REPETITION_INCREASE = 0.1  # share of a completion's trigrams
MAX_LENGTH_RATIO = 1.5  # times as long or as short as at the start
MAX_REWARD_DROP = 0.25  # of a monitored reward, in standard deviations at the start,
MAX_REWARD_DROP_ERRORS = 2.0  # and in standard errors
MONITORED = "monitor "  # before a monitored reward's name, in the metrics of an evaluation


def diversity_metrics(completions: Sequence[Sequence[int]]) -> dict[str, float]:
    """Of completions as token ids: `distinct`, the share of different ones, and `repeated`, the mean share of a
    completion's trigrams that occurred earlier in it (Welleck et al. 2020, "seq-rep-n").
    """
    return {
        "distinct": len(set(map(tuple, completions))) / len(completions),
        "repeated": sum(map(_repeated, completions)) / len(completions),
    }


def _repeated(token_ids: Sequence[int]) -> float:
    trigrams = list(zip(token_ids, token_ids[1:], token_ids[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def detect_warnings(
    before: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    config: RLConfig,
    is_reward_model: bool,
) -> dict[str, str]:
    """Messages by warning name for the newest of `evaluations`; `before` is the starting policy's evaluation."""
    now = evaluations[-1]
    messages = {
        "kl_high": _kl_high(now["kl"], config),
        "mode_collapse": _mode_collapse(before["distinct"], now["distinct"]),
        "repetition": _repetition(before["repeated"], now["repeated"]),
        "length": _length(before["length"], now["length"]),
        "out_of_range": _out_of_range(before, now) if is_reward_model else "",
    }
    for name in now:
        if name.startswith(MONITORED) and f"{name} std" in before:
            messages[name] = _reward_dropped(name, before, evaluations)
    return {name: message for name, message in messages.items() if message}


def first_warnings(
    before: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    config: RLConfig,
    is_reward_model: bool,
) -> list[JsonObject]:
    """Each warning of a run once: `warning` (its name), the `step` that first raised it, and its `message` there."""
    first: dict[str, JsonObject] = {}
    for n, row in enumerate(evaluations, 1):
        for name, message in detect_warnings(before, evaluations[:n], config, is_reward_model).items():
            first.setdefault(name, {"warning": name, "step": row["step"], "message": message})
    return list(first.values())


def _kl_high(kl: float, config: RLConfig) -> str:
    if config.kl_target is not None and kl > MAX_KL_RATIO * config.kl_target:
        return f"kl {kl:.1f}: the penalty does not hold kl_target {config.kl_target:g}; start with a higher kl_coef"
    if config.kl_target is None and kl > MAX_KL:
        return f"kl {kl:.1f} nats a completion: above {MAX_KL:g} the policy has little in common with its reference"
    return ""


def _mode_collapse(before: float, now: float) -> str:
    if now >= MIN_DISTINCT_RATIO * before:
        return ""
    return f"{now:.0%} of the completions are distinct, {before:.0%} at the start"


def _repetition(before: float, now: float) -> str:
    if now <= before + MAX_REPETITION_INCREASE:
        return ""
    return f"{now:.0%} of a completion's trigrams are repeated, {before:.0%} at the start"


def _length(before: float, now: float) -> str:
    if before / MAX_LENGTH_RATIO <= now <= before * MAX_LENGTH_RATIO:
        return ""
    return f"completions have {now:.1f} tokens, {before:.1f} at the start"


def _out_of_range(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if now["reward"] <= before["reward_max"]:
        return ""
    return (
        f"the mean reward {now['reward']:.3f} is above the starting policy's highest ({before['reward_max']:.3f}):"
        " the reward model extrapolates"
    )


def _reward_dropped(name: str, before: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    best, now = max(row[name] for row in (before, *evaluations)), evaluations[-1][name]
    # the standard error of the difference of two means of so many completions
    errors = MAX_REWARD_DROP_ERRORS * (2 / evaluations[-1]["completions"]) ** 0.5
    if now >= best - max(MAX_REWARD_DROP, errors) * before[f"{name} std"]:
        return ""
    return f"the monitored reward {name.removeprefix(MONITORED)} fell from {best:.3f} to {now:.3f}"


class OveroptimizationMonitor:
    """Prints each warning of a run once, after the evaluation that raises it. Evaluations are read from the metrics
    in `work`, so a resumed run warns as an uninterrupted one.
    """

    def __init__(
        self, title: str, before: Mapping[str, Any], config: RLConfig, is_reward_model: bool, work: Path
    ) -> None:
        self.title, self.before, self.config, self.is_reward_model = title, before, config, is_reward_model
        self.path, self.printed = work / METRICS, set[str]()

    def check(self, now: JsonObject) -> JsonObject:
        """Print what the newest evaluation warns of; returns the evaluation unchanged."""
        messages = detect_warnings(
            self.before, [*self._evaluations(), now], self.config, self.is_reward_model
        )
        for name, message in messages.items():
            if name not in self.printed:
                log(f"{self.title}: warning: {message}")
        self.printed |= messages.keys()
        return now

    def warnings(self) -> list[JsonObject]:
        """The finished run's warnings, as `first_warnings` gives them."""
        return first_warnings(self.before, self._evaluations(), self.config, self.is_reward_model)

    def _evaluations(self) -> list[JsonObject]:
        rows = read_metrics(self.path) if self.path.exists() else []
        return [row for row in rows if row["kind"] == "validation"]
