"""The table of a set of text, conversations, preferences or examples that was just prepared."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from parakit.common.files import JsonObject
from parakit.common.formatting import quantity

_UNITS = ("examples", "rankings", "conversations", "documents", "bytes")


def split_table(report: JsonObject, title: str) -> Table:
    """A row for each split, with the sizes that its report has."""
    splits = {
        name: counts if isinstance(counts, dict) else {"conversations": counts}
        for name, counts in report["splits"].items()
    }
    keys = [*_UNITS, "sources"] if "split_by" in report else [*_UNITS]
    shown = [key for key in keys if any(key in counts for counts in splits.values())]
    headings = ("texts" if key == "sources" else key for key in shown)
    table = Table("split", *headings, title=escape(title), title_justify="left")
    for name, counts in splits.items():
        table.add_row(name, *(quantity(counts[k]) if k == "bytes" else f"{counts[k]:,}" for k in shown))
    return table
