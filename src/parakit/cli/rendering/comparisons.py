"""A comparison of two models as a table."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.common.files import JsonObject
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.outcome import ScoreComparison
from parakit.reports.comparison_page import difference_text, needed_text, p_text, score_name, value_text


def show_comparison(found: JsonObject, config: CompareConfig, console: Console) -> None:
    """Print one model against the reference: every score with its verdict, what its items detect, and the whole verdict."""
    caption = "95 % intervals; p is corrected for the number of tests"
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, caption=caption)
    for heading in ("score", "reference", "model", "difference", "n", "p", "verdict"):
        table.add_column(heading, no_wrap=heading != "score", overflow="fold")
    table.title = escape(f"{found['model']} against {found['reference']}")
    rows = [ScoreComparison(**row) for row in found["scores"]]
    for row in rows:
        difference = (
            difference_text(row) if row.unit == "share" else difference_text(row).replace(" (", "\n(")
        )
        values = (value_text(row, row.first), value_text(row, row.second), difference)
        table.add_row(
            escape(score_name(row)), *values, f"{row.n:,}", p_text(row.corrected_p_value), row.verdict or ""
        )
    console.print(table)
    lines = [f"{score_name(row)}: {line}" for row in rows if (line := needed_text(row, config))]
    allowed: dict[str, list[str]] = {}
    for row in rows:
        for key, (first, second) in row.allowed.items() if row.verdict else ():
            allowed.setdefault(f"{key} differs: {first} and {second}", []).append(score_name(row))
    lines += [f"{', '.join(names)}: {what}" for what, names in allowed.items()]
    lines += [
        f"only in {where}: {', '.join(found[key])}"
        for where, key in ((found["reference"], "only_in_reference"), (found["model"], "only_in_model"))
        if found[key]
    ]
    if found["not_compared"]:
        lines.append(f"without scores of items, not compared: {', '.join(found['not_compared'])}")
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
    console.print(escape(f"{found['model']}: {found['verdict']}"), highlight=False, style="bold")
