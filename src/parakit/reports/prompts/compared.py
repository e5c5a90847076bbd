"""The page of compared prompts: scores against tokens as a table and a picture, the prompts, and some of their replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import points
from parakit.reports.comparison_page import p_text
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, draw_points, geometry
from parakit.reports.rendering import page_template


def render_prompts(results: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML text, from the content of results.json and what is shown of each prompt."""
    page = {
        "results": results,
        "rows": prompt_rows(results),
        "compared": len(results["prompts"]) > 1,
        "shown": shown,
        "notes": prompt_notes(results),
        **geometry(_plot(results)),
    }
    return page_template("prompts.html").render(page)


def tokens_picture(results: Mapping[str, Any]) -> str:
    """Scores against tokens of an item as SVG text."""
    return draw_points(_plot(results))


def _plot(results: Mapping[str, Any]) -> PointPlot:
    series = [
        Series(
            name,
            [
                PlottedPoint(
                    one["prompt_tokens"]["value"] + one["new_tokens"]["value"],
                    one["score"]["value"],
                    one["score"]["low"],
                    one["score"]["high"],
                )
            ],
        )
        for name, one in results["prompts"].items()
    ]
    return PointPlot(
        "Score against tokens", "tokens of an item, prompt and reply", results["metric"], series, percent=True
    )


def prompt_rows(results: Mapping[str, Any]) -> list[JsonObject]:
    """A row for each prompt: score with interval, tokens, difference from the first with its verdict."""
    rows = []
    for name, one in results["prompts"].items():
        score = one["score"]
        interval = f"{100 * score['low']:.1f} to {100 * score['high']:.1f}"
        row: JsonObject = {
            "prompt": name,
            f"{results['metric']}, %": f"{100 * score['value']:.1f} ({interval})",
            "tokens in": f"{one['prompt_tokens']['value']:.0f}",
            "out": f"{one['new_tokens']['value']:.0f}",
        }
        if len(results["prompts"]) > 1:
            row |= {"difference": "reference", "p": "", "verdict": ""}
            if one["comparison"]:
                found = one["comparison"]["scores"][results["metric"]]
                row["difference"] = (
                    f"{points(found['difference'])} ({points(found['low'])} to {points(found['high'])})"
                )
                row |= {"p": p_text(found["corrected_p_value"]), "verdict": one["comparison"]["verdict"]}
        rows.append(row)
    return rows


def prompt_notes(results: Mapping[str, Any]) -> list[str]:
    """What went wrong, and how much."""
    lines = []
    for name, one in results["prompts"].items():
        for key, what in (
            ("n_too_long", "do not fit into the context window, and score 0"),
            ("n_without_form", "have a reply without the prompt's output form, and score 0"),
            ("n_cut", "have a reply that ends at the length limit"),
        ):
            if one[key]:
                lines.append(f"{name}: {one[key]} of {results['n_items']} items {what}")
        if one["comparison"] and one["comparison"]["verdict"] == "cannot tell":
            found = one["comparison"]["scores"][results["metric"]]
            needed = f"; 2 points need {found['n_needed']:,}" if found["n_needed"] else ""
            lines.append(
                f"{name}: {found['n']:,} items detect a difference of {100 * found['detectable']:.1f} points{needed}"
            )
    if results["n_overlapping_examples"]:
        lines.append(
            f"{results['n_overlapping_examples']} training rows are inputs of test items, and were no examples"
        )
    return lines
