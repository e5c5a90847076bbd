"""What alignment brought, in words: held-out pairs before and after, reward against distance from the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.reports.formatting import is_number, number, percent


def outcome(figures: Mapping[str, Any]) -> list[str]:
    """Sentences' parts on an alignment stage's figures; empty for any other stage."""
    before: Mapping[str, Any] = figures.get("before") or {}
    found = []
    if is_number(figures.get("logp_accuracy")):
        found.append(
            f"of held-out pairs the better answer is the likelier one in {percent(figures['logp_accuracy'])}"
            + _before(percent(before.get("logp_accuracy")))
            + f", and gained more in {percent(figures.get('accuracy'))}"
        )
    elif is_number(figures.get("margin")):
        found.append(_judge(figures, figures.get("judged") or {}))
    if is_number(figures.get("reward")) and is_number(before.get("reward")):
        found.append(
            f"reward on held-out prompts {number(figures['reward'])}" + _before(number(before["reward"]))
        )
        if is_number(figures.get("kl")):
            found.append(f"{number(figures['kl'])} nats an answer from where it began")
    return found


def _judge(figures: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    told = f"it finds the better of two held-out answers in {percent(figures.get('accuracy'))}"
    if not judged:
        return told
    return (
        told
        + f" (95 % between {percent(judged['low'])} and {percent(judged['high'])}; a judge of length alone"
        f" {percent(judged['length_judge'])}), and its claims are off by {percent(judged['calibration_error'])}"
    )


def _before(value: str) -> str:
    return f" (before: {value})"
