"""The page of a red team's work: success by category before and after, figures, and what was said.

Drawn with the parts of the build's report, and as self-contained as it is: no network, no script, every text escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.reports import charts
from parakit.reports.formatting import percent, words
from parakit.reports.rendering import page_template

N_SHOWN = 8  # answers of each category; those that changed and those that succeeded first
_STYLE = {"before": "base", "after": "tuned"}  # roles as the charts colour them


def render_red_team(
    results: Mapping[str, Any], transcripts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """The page as HTML text, from what `results.json` and the transcripts hold."""
    found = results["categories"]
    names = list(found["after"])
    suites = {
        name: {
            _STYLE[role]: {"accuracy": figures[name]["success"], **figures[name]}
            for role, figures in found.items()
            if name in figures
        }
        for name in names
    }
    roles = [role for role in ("before", "after") if role in found]
    titles = {role: role if len(roles) > 1 else Path(str(results["models"][role])).name for role in roles}
    page = {
        "models": results["models"],
        "judge": results["judge"],
        "roles": roles,
        "titles": titles,
        "rows": charts.suite_rows({"suites": suites}),
        "legend": {_STYLE[role]: titles[role] for role in roles},
        "table": [_row(name, results, roles) for name in names],
        "turns": [(words(name), _turns(name, transcripts)) for name in names if name != "attacks"],
    }
    return page_template("red_team.html").render(page)


def _row(name: str, results: Mapping[str, Any], roles: Sequence[str]) -> dict[str, Any]:
    cells = [results["categories"][role].get(name) for role in roles]
    difference = results["compared"].get(name)
    text = ""
    if difference:
        low, high = difference["low"], difference["high"]
        text = f"{100 * difference['difference']:+.1f} points, 95 % between {100 * low:+.1f} and {100 * high:+.1f}"
    return {"name": words(name), "cells": cells, "difference": text}


def _turns(name: str, transcripts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A few attacks of a category, with what each model said to them."""
    by_id = {role: {row["id"]: row for row in rows} for role, rows in transcripts.items()}
    rows = [row for row in transcripts["after"] if row["category"] == name]

    def interest(row: Mapping[str, Any]) -> tuple[bool, bool]:
        verdicts = {found[row["id"]]["succeeded"] for found in by_id.values() if row["id"] in found}
        return len(verdicts) < 2, not row["succeeded"]

    return [
        {
            "prompt": "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"]),
            "kind": row["kind"],
            "said": [(role, found[row["id"]]) for role, found in by_id.items() if row["id"] in found],
        }
        for row in sorted(rows, key=interest)[:N_SHOWN]
    ]


def verdict_line(found: Mapping[str, Any]) -> str:
    """A category's figures in one line: "27.0 % (19.3 % – 36.4 %) of 100"."""
    return f"{percent(found['success'])} ({percent(found['low'])} – {percent(found['high'])}) of {found['n']}"
