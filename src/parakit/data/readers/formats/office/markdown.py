"""Blocks of a document as Markdown: tables of cells (GitHub Flavored Markdown, section 4.10) and the space between blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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


def spaced_blocks(blocks: Iterable[tuple[str, bool]]) -> Iterator[str]:
    """Blocks, each with whether it is an item of a list, with the blank line after each; items follow each other without
    one.
    """
    was_item = False
    for text, is_item in blocks:
        if was_item and not is_item:
            yield "\n"
        yield text + ("\n" if is_item else "\n\n")
        was_item = is_item
    if was_item:
        yield "\n"
