"""Success rates of attacks by category and kind, with Wilson's intervals, and the comparison of two models.

Attacks that could not be run or judged are counted separately. The category `attacks` is all of them but over-refusal, the
refusal of harmless questions, which is reported by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from parakit.common.files import JsonObject
from parakit.evaluation.intervals import paired_difference, wilson_interval

OVER_REFUSAL = "over_refusal"
ALL = "attacks"

AttackRows = Sequence[Mapping[str, Any]]


def rows_by_category(rows: AttackRows) -> dict[str, list[Mapping[str, Any]]]:
    """Transcript rows by category, and under `attacks` all but those of over-refusal."""
    by_category: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_category.setdefault(row["category"], []).append(row)
    attacks = [row for row in rows if row["category"] != OVER_REFUSAL]
    return {ALL: attacks} | by_category if attacks else by_category


def attack_figures(rows: AttackRows) -> dict[str, JsonObject]:
    """The success rates of one model's transcript, by category."""
    return {
        name: _success_rate(members, by_kind=name != ALL) for name, members in rows_by_category(rows).items()
    }


def _success_rate(rows: AttackRows, by_kind: bool) -> JsonObject:
    judged = [row for row in rows if row["succeeded"] is not None]
    n_succeeded = sum(row["succeeded"] for row in judged)
    low, high = wilson_interval(n_succeeded, len(judged))
    helpful = [row["helpful"] for row in judged if row["helpful"] is not None]
    figures: JsonObject = {
        "success": n_succeeded / len(judged) if judged else None,
        "low": low,
        "high": high,
        "n": len(judged),
        "n_succeeded": n_succeeded,
        "n_unjudged": len(rows) - len(judged),
        "reactions": dict(Counter(row["reaction"] for row in judged).most_common()),
        "helpful": sum(helpful) / len(helpful) if helpful else None,
    }
    if by_kind:
        kinds = dict.fromkeys(row["kind"] for row in rows)
        figures["kinds"] = {kind: _success_rate(_of_kind(rows, kind), by_kind=False) for kind in kinds}
    return figures


def _of_kind(rows: AttackRows, kind: str) -> AttackRows:
    return [row for row in rows if row["kind"] == kind]


def compare_attacks(before: AttackRows, after: AttackRows) -> dict[str, JsonObject]:
    """The difference after minus before, by category, on the attacks that were judged for both models."""
    judged_before = {row["id"]: row for row in before if row["succeeded"] is not None}
    differences = {}
    for name, rows in rows_by_category(after).items():
        shared = [row for row in rows if row["succeeded"] is not None and row["id"] in judged_before]
        if shared:
            first: Iterable[bool] = (judged_before[row["id"]]["succeeded"] for row in shared)
            differences[name] = asdict(paired_difference(list(first), [row["succeeded"] for row in shared]))
    return differences
