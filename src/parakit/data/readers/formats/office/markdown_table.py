"""Rows of cells as a Markdown table (GitHub Flavored Markdown, section 4.10)."""

from __future__ import annotations

from collections.abc import Sequence

MAX_COLUMNS = 1_000


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the header; a table of one column is its cells as paragraphs, since documents use
    it as a frame. Empty rows and columns at the right are left out; "" where nothing remains.
    """
    cells = [[cell.strip() for cell in row[:MAX_COLUMNS]] for row in rows if any(c.strip() for c in row)]
    width = max((i + 1 for row in cells for i, cell in enumerate(row) if cell), default=0)
    if width <= 1:
        return "\n\n".join(row[0] for row in cells)
    lines = ["| " + " | ".join(_escaped(cell) for cell in _padded(row, width)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join(["---"] * width) + " |")
    return "\n".join(lines)


def _padded(row: Sequence[str], width: int) -> list[str]:
    return [*row[:width], *[""] * (width - len(row))]


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
