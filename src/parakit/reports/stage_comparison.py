"""The stages of a life against each other: every model beside the one that it was made from.

`summary["against_parent"]` is what the evaluation stage found: by model its `parent`, for every suite and over `all` of them
the difference in the share of right answers on the same questions, with a 95 % interval and McNemar's p.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.reports.formatting import (
    ROLES,
    Summary,
    is_number,
    model_stages,
    percent,
    stage,
    suite_means,
    words,
)

CERTAIN = 0.01  # of McNemar's p, below which a suite is said to have changed


@dataclass(frozen=True)
class Step:
    """One model against its parent, in words."""

    model: str
    parent: str
    before: str
    after: str
    difference: str
    interval: str
    gained: str
    lost: str


def steps(summary: Summary) -> list[Step]:
    """What every stage that made a model brought; empty where no two models were compared."""
    means = suite_means(summary)
    found = []
    for role, against in (summary.get("against_parent") or {}).items():
        parent, whole = str(against.get("parent", "")), against.get("all") or {}
        found.append(
            Step(
                model=ROLES.get(role, words(role)),
                parent=ROLES.get(parent, words(parent)),
                before=percent(means.get(parent)),
                after=percent(means.get(role)),
                difference=_points(whole.get("difference")),
                interval=f"{_points(whole.get('low'))} to {_points(whole.get('high'))}",
                gained=_changed(against.get("suites") or {}, 1),
                lost=_changed(against.get("suites") or {}, -1),
            )
        )
    return found


def trained_stages(summary: Summary) -> list[str]:
    """Every stage that trained something and wrote down how, in the order in which they ran."""
    made = set(model_stages(summary).values())
    names = summary.get("stages") or {}
    return [name for name in names if name in made or stage(summary, name).get("metrics")]


def _points(value: Any) -> str:
    """0.123 as `+12.3`: points of 100, with their sign."""
    return f"{100 * value:+.1f}" if is_number(value) else "–"


def _changed(suites: Mapping[str, Any], sign: int) -> str:
    """The suites that became better (or worse) by more than chance, with by how much."""
    certain = [
        (name, found["difference"])
        for name, found in suites.items()
        if found["difference"] * sign > 0 and found["p_value"] < CERTAIN
    ]
    return ", ".join(f"{words(name)} {_points(difference)}" for name, difference in certain)
