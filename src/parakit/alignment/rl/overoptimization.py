"""Signs that a policy follows its reward further than the reward can be trusted.

A reward that was learnt is right about answers such as it was trained on; a policy that follows it leaves those, and
the reward goes on rising while what was meant by it falls (Gao et al. 2022, "Scaling laws for reward model
overoptimization"). Nothing in the reward itself says so. What can be seen is the distance, answers that grow alike,
long or circular, rewards above all that the start was ever given, and another judge, which nothing is trained on.
All signs compare measurements on the same held-out prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.alignment.rl.config import OnlineConfig
from parakit.common.progress import log
from parakit.training.metrics import METRICS, read_metrics

FAR = 10.0  # nats a completion at which a model is mostly something else than it was
SLIPPED = 2.0  # times its target: what an adaptive leash is taken to hold
ALIKE = 0.5  # of the different answers that the start gave
CIRCULAR = 0.1  # more of an answer's token triples than at the start
OTHER_LENGTH = 1.5  # times as long or as short as at the start
FALLEN = 0.25  # standard deviations of another judge's rewards at the start, and beyond chance:
CHANCE = 2.0  # standard errors
WATCHED = "watched "  # before the name of another judge, in a measurement's figures


def texture(completions: Sequence[Sequence[int]]) -> dict[str, float]:
    """Of completions as token ids: `distinct`, the share of different ones, and `repeated`, the share of a
    completion's token triples that it has said before (Welleck et al. 2020, "seq-rep-n").
    """
    return {
        "distinct": len(set(map(tuple, completions))) / len(completions),
        "repeated": sum(map(_repeated, completions)) / len(completions),
    }


def _repeated(token_ids: Sequence[int]) -> float:
    triples = list(zip(token_ids, token_ids[1:], token_ids[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def signs(
    before: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], config: OnlineConfig, learnt: bool
) -> dict[str, str]:
    """By name, what the newest of the measurements shows, in words; `before` is the start's. `learnt`: the reward is
    a model's.
    """
    now = measured[-1]
    found = {
        "far": _far(now["kl"], config),
        "alike": _alike(before["distinct"], now["distinct"]),
        "circular": _circular(before["repeated"], now["repeated"]),
        "length": _length(before["length"], now["length"]),
        "beyond": _beyond(before, now) if learnt else "",
    }
    for name in now:
        if name.startswith(WATCHED) and f"{name} std" in before:
            found[name] = _fallen(name, before, measured)
    return {name: words for name, words in found.items() if words}


def first_signs(
    before: Mapping[str, Any], measured: Sequence[Mapping[str, Any]], config: OnlineConfig, learnt: bool
) -> list[dict[str, Any]]:
    """Every sign of a run once: its name, the step it was first seen at, and what it said there."""
    found: dict[str, dict[str, Any]] = {}
    for n, row in enumerate(measured, 1):
        for name, words in signs(before, measured[:n], config, learnt).items():
            found.setdefault(name, {"sign": name, "step": row["step"], "says": words})
    return list(found.values())


def _far(kl: float, config: OnlineConfig) -> str:
    if config.kl_target is not None and kl > SLIPPED * config.kl_target:
        return f"kl {kl:.1f}: the leash, whose kl_target is {config.kl_target:g}, does not hold; begin with a higher kl_coef"
    if config.kl_target is None and kl > FAR:
        return f"kl {kl:.1f} nats a completion: above {FAR:g} a model is mostly something else than it was"
    return ""


def _alike(before: float, now: float) -> str:
    if now >= ALIKE * before:
        return ""
    return f"{now:.0%} of the answers are different from each other, and at the start {before:.0%} were"


def _circular(before: float, now: float) -> str:
    if now <= before + CIRCULAR:
        return ""
    return f"answers go round in circles: {now:.0%} of their token triples are repeated, and at the start {before:.0%} were"


def _length(before: float, now: float) -> str:
    if before / OTHER_LENGTH <= now <= before * OTHER_LENGTH:
        return ""
    return f"answers have {now:.1f} tokens, and at the start they had {before:.1f}"


def _beyond(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if now["reward"] <= before["reward_high"]:
        return ""
    return (
        f"the mean reward, {now['reward']:.3f}, is above the highest that any answer of the start was given"
        f" ({before['reward_high']:.3f}): the reward model judges what it has hardly seen"
    )


def _fallen(name: str, before: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> str:
    best, now = max(row[name] for row in (before, *measured)), measured[-1][name]
    chance = CHANCE * (2 / measured[-1]["answers"]) ** 0.5  # the difference of two means of so many answers
    if now >= best - max(FALLEN, chance) * before[f"{name} std"]:
        return ""
    return f"{name.removeprefix(WATCHED)}, which is only watched, fell from {best:.3f} to {now:.3f}"


class Watch:
    """Looks for signs after every measurement of a run whose metrics stand in the folder `work`, and tells each once.
    What an interrupted run measured counts, so one that goes on sees what an unbroken one would.
    """

    def __init__(
        self, title: str, before: Mapping[str, Any], config: OnlineConfig, learnt: bool, work: Path
    ) -> None:
        self.title, self.before, self.config, self.learnt = title, before, config, learnt
        self.path, self.told = work / METRICS, set[str]()

    def seen(self, now: dict[str, Any]) -> dict[str, Any]:
        """Take in the newest measurement; returns it as it is."""
        found = signs(self.before, [*self._measured(), now], self.config, self.learnt)
        for name, words in found.items():
            if name not in self.told:
                log(f"{self.title}: beware: {words}")
        self.told |= found.keys()
        return now

    def signs(self) -> list[dict[str, Any]]:
        """Every sign once, when the run is over: its name, the step it was first seen at, what it said there."""
        return first_signs(self.before, self._measured(), self.config, self.learnt)

    def _measured(self) -> list[dict[str, Any]]:
        rows = read_metrics(self.path) if self.path.exists() else []
        return [row for row in rows if row["kind"] == "validation"]
