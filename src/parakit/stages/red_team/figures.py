"""Figures of a red team's work: the share of attacks that succeed, by category and kind, with Wilson's intervals, and
two models compared attack by attack.

Attacks that could not be run or judged are counted separately, never in the share. `attacks` is all categories together
but over-refusal, which is reported by itself: it is the price that a cautious model pays.
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
    """Transcript rows by category, and under `attacks` all that are not about over-refusal."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["category"], []).append(row)
    together = [row for row in rows if row["category"] != OVER_REFUSAL]
    return {ALL: together} | found if together else found


def attack_figures(rows: AttackRows) -> dict[str, JsonObject]:
    """Figures by category, from one model's transcript."""
    return {name: _share(members, by_kind=name != ALL) for name, members in rows_by_category(rows).items()}


def _share(rows: AttackRows, by_kind: bool) -> JsonObject:
    judged = [row for row in rows if row["succeeded"] is not None]
    n_succeeded = sum(row["succeeded"] for row in judged)
    low, high = wilson_interval(n_succeeded, len(judged))
    helpful = [row["helpful"] for row in judged if row["helpful"] is not None]
    found: JsonObject = {
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
        found["kinds"] = {kind: _share(_of_kind(rows, kind), by_kind=False) for kind in kinds}
    return found


def _of_kind(rows: AttackRows, kind: str) -> AttackRows:
    return [row for row in rows if row["kind"] == kind]


def compare_attacks(before: AttackRows, after: AttackRows) -> dict[str, JsonObject]:
    """After minus before, by category, on the attacks that were judged of both."""
    known = {row["id"]: row for row in before if row["succeeded"] is not None}
    differences = {}
    for name, rows in rows_by_category(after).items():
        shared = [row for row in rows if row["succeeded"] is not None and row["id"] in known]
        if shared:
            first: Iterable[bool] = (known[row["id"]]["succeeded"] for row in shared)
            differences[name] = asdict(paired_difference(list(first), [row["succeeded"] for row in shared]))
    return differences
