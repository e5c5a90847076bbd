"""The HTML page of a red-team run: attack success by category, and the models' answers.

It is drawn as the build's report is and is as self-contained: no network, no script, every text escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import points
from parakit.reports import charts
from parakit.reports.formatting import humanize
from parakit.reports.rendering import page_template
from parakit.reports.summary_parts import SuiteSummary
from parakit.reports.summary_schema import BuildSummary

N_SHOWN = 8  # answers of each category; those that changed and those that succeeded first
_STYLE = {"before": "base", "after": "tuned"}  # roles as the charts colour them


def render_red_team(
    results: Mapping[str, Any], transcripts: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """The page as HTML text, from the content of `results.json` and of the transcripts."""
    categories = results["categories"]
    names = list(categories["after"])
    suites = {
        name: {
            _STYLE[role]: SuiteSummary(
                accuracy=figures[name]["success"], low=figures[name]["low"], high=figures[name]["high"]
            )
            for role, figures in categories.items()
            if name in figures and figures[name]["success"] is not None
        }
        for name in names
    }
    roles = [role for role in ("before", "after") if role in categories]
    titles = {role: role if len(roles) > 1 else Path(str(results["models"][role])).name for role in roles}
    page = {
        "models": results["models"],
        "judge": results["judge"],
        "roles": roles,
        "titles": titles,
        "rows": charts.suite_rows(BuildSummary(suites=suites)),
        "legend": {_STYLE[role]: titles[role] for role in roles},
        "table": [_row(name, results, roles) for name in names],
        "turns": [(humanize(name), _turns(name, transcripts)) for name in names if name != "attacks"],
    }
    return page_template("red_team.html").render(page)


def _row(name: str, results: Mapping[str, Any], roles: Sequence[str]) -> JsonObject:
    cells = [results["categories"][role].get(name) for role in roles]
    difference = results["compared"].get(name)
    text = ""
    if difference:
        between = f"{points(difference['low'])} and {points(difference['high'])}"
        text = f"{points(difference['difference'])} points, 95 % between {between}"
    return {"name": humanize(name), "cells": cells, "difference": text}


def _turns(name: str, transcripts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[JsonObject]:
    """A few attacks of a category, with the answer of each model."""
    by_id = {role: {row["id"]: row for row in rows} for role, rows in transcripts.items()}
    rows = [row for row in transcripts["after"] if row["category"] == name]

    def interest(row: Mapping[str, Any]) -> tuple[bool, bool]:
        verdicts = {found[row["id"]]["succeeded"] for found in by_id.values() if row["id"] in found}
        return len(verdicts) < 2, not row["succeeded"]

    return [
        {
            "prompt": "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"]),
            "kind": row["kind"],
            "completions": [(role, found[row["id"]]) for role, found in by_id.items() if row["id"] in found],
        }
        for row in sorted(rows, key=interest)[:N_SHOWN]
    ]
