"""The page of sampled replies: accuracy against tokens for every way to choose among n replies, and the verifiers' errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.common.files import JsonObject
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, draw_points, geometry
from parakit.reports.rendering import page_template

MEANING = {
    "votes": "the answer of most replies",
    "coverage": "whether any reply is right: the bound of every choice",
    "budget": "one greedy reply after thinking of n tokens",
}
VERIFIER = "the reply with the highest score of this verifier"


def render_samples(results: Mapping[str, Any]) -> str:
    """The page as HTML text, from the content of results.json."""
    page = {
        "results": results,
        "rows": sample_rows(results),
        "errors": error_lines(results),
        "meanings": [(name, MEANING.get(name, VERIFIER)) for name in results["curves"]],
        **geometry(_plot(results)),
    }
    return page_template("prompt_samples.html").render(page)


def curve_picture(results: Mapping[str, Any]) -> str:
    """Accuracy against tokens as SVG text."""
    return draw_points(_plot(results))


def _plot(results: Mapping[str, Any]) -> PointPlot:
    series = [
        Series(name, [PlottedPoint(one["tokens"], one["value"], one["low"], one["high"]) for one in points])
        for name, points in results["curves"].items()
    ]
    title = "Accuracy against tokens spent"
    return PointPlot(title, "tokens of an item, prompt and replies", results["metric"], series, percent=True)


def sample_rows(results: Mapping[str, Any]) -> list[JsonObject]:
    """A row for each point."""
    return [
        {
            "choice": name,
            "n": one["n"],
            "tokens": f"{one['tokens']:.0f}",
            f"{results['metric']}, %": f"{100 * one['value']:.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})",
        }
        for name, points in results["curves"].items()
        for one in points
    ]


def error_lines(results: Mapping[str, Any]) -> list[str]:
    """What each verifier gets wrong."""
    lines = []
    for name, one in results["errors"].items():
        if one["ranked"] is not None:
            lines.append(
                f"{name}: ranks {one['ranked']:.1%} of {one['n_pairs']:,} pairs of a right and a wrong reply rightly, and"
                f" chooses a wrong one in {one['missed']:.1%} of the {one['n_items']:,} items that have a right one"
            )
        else:
            lines.append(f"{name}: no item has a right and a wrong reply, so its errors are not known")
    return lines
