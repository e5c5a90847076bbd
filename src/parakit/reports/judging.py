"""The HTML page of a judging run: ratings or grades, how far the judge can be trusted, and examples with its verdicts.

As self-contained as the other pages: no network, no script, every text escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parakit.common.files import JsonObject
from parakit.reports.rendering import page_template

N_SHOWN = 12


def render_judging(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML text, from the content of results.json and the lines of verdicts.jsonl."""
    pairwise = results["kind"] == "pairwise"
    shown = _comparisons(rows) if pairwise else _grades(rows)
    page = {
        "results": results,
        "pairwise": pairwise,
        "trust": trust_lines(results),
        "rows": judged_rows(results),
        "examples": shown,
    }
    return page_template("judging.html").render(page)


def trust_lines(results: Mapping[str, Any]) -> list[str]:
    """Sentences about the judge: position bias, agreement with votes, missing verdicts."""
    lines = []
    bias, found = results.get("position_bias"), results["agreement"]
    if bias:
        lines.append(
            f"Position bias: {_share(bias['consistent'])} of the verdicts are the same in both orders;"
            f" {_share(bias['favours_first'])} favour the answer shown first, whichever it is, and"
            f" {_share(bias['favours_second'])} the one shown second ({bias['n']} pairs)."
        )
    if found and found["accuracy"]:
        lines.append(
            f"Agreement with {found['n']} votes: accuracy {_share(found['accuracy'])}, kappa {_number(found['kappa'])}."
        )
    if found and found.get("decided"):
        lines.append(
            f"Where both choose a winner ({found['n_decided']} votes): {_share(found['decided'])} agree."
        )
    if found and found.get("preferred"):
        lines.append(
            f"The judge's mean preference over both orders is for the voters' winner in {_share(found['preferred'])}"
            f" of {found['n_preferred']} votes."
        )
    if found and found.get("spearman"):
        lines.append(f"Rank correlation of the grades: {_number(found['spearman'])}.")
    if results["n_unjudged"]:
        lines.append(
            f"{results['n_unjudged']} without a verdict: the reply was none, or the prompt too long."
        )
    if results["n_without_answer"]:
        lines.append(f"{results['n_without_answer']} left out: an answer is missing.")
    return lines


def judged_rows(results: Mapping[str, Any]) -> list[JsonObject]:
    """A row for each model, best first: its rating and its comparisons, or its mean grade; the keys are headings."""
    rated = [
        {
            "model": row["model"],
            "rating": round(row["bradley_terry"]["value"]),
            "95 % interval": f"{row['bradley_terry']['low']:.0f} to {row['bradley_terry']['high']:.0f}",
            "Elo": round(row["elo"]["value"]),
            "won": row["wins"],
            "tied": row["ties"],
            "lost": row["losses"],
        }
        for row in results.get("ratings", ())
    ]
    graded = {name: found["scores"][found["main"]] for name, found in results.get("benchmarks", {}).items()}
    return rated or [
        {
            "model": name,
            "grade, 1 to 5": f"{grade['value']:.2f}",
            "95 % interval": f"{grade['low']:.2f} to {grade['high']:.2f}",
            "answers": grade["n"],
        }
        for name, grade in sorted(graded.items(), key=lambda item: -item[1]["value"])
    ]


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> list[JsonObject]:
    """Some pairs with different answers: those with a winner first."""
    ordered = sorted(
        (row for row in rows if not row["equal"]), key=lambda row: row["winner"] in ("tie", None)
    )
    return [
        {
            "prompt": row["prompt"],
            "answers": [
                (row[f"model_{side}"], row[f"answer_{side}"], row["winner"] == f"model_{side}")
                for side in ("a", "b")
            ],
            "note": {"tie": "tie", None: "no verdict"}.get(row["winner"], ""),
        }
        for row in ordered[:N_SHOWN]
    ]


def _grades(rows: Sequence[Mapping[str, Any]]) -> list[JsonObject]:
    """Some prompts with every model's answer and its grade."""
    by_prompt: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["id"], []).append(row)
    return [
        {
            "prompt": found[0]["prompt"],
            "answers": [
                (f"{row['model']}: {'no verdict' if row['grade'] is None else format(row['grade'], '.2f')}",
                 row["answer"], False)
                for row in found
            ],
            "note": "",
        }
        for found in list(by_prompt.values())[:N_SHOWN]
    ]  # fmt: skip


def _share(found: Mapping[str, float]) -> str:
    return f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


def _number(found: Mapping[str, float]) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
