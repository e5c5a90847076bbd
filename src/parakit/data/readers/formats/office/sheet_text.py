"""The rows of a spreadsheet as text: "name: value; name: value", with the names of the first row."""

from __future__ import annotations

from collections.abc import Iterator


def sheet_blocks(sheet: str, rows: Iterator[list[str]]) -> Iterator[str]:
    """One line a row under the sheet's name; where the first row has no names, the values alone."""
    first = next(rows, None)
    if first is None:
        return
    if sheet:
        yield f"## {sheet}\n\n"
    names = first if _are_names(first) else []
    if not names:
        yield _line(first, [])
    for row in rows:
        yield _line(row, names)
    yield "\n"


def _are_names(row: list[str]) -> bool:
    return len(row) > 1 and all(cell and not cell[0].isdigit() for cell in row) and len({*row}) == len(row)


def _line(row: list[str], names: list[str]) -> str:
    values = [" ".join(cell.split()) for cell in row]
    if names:
        values = [f"{names[i]}: {v}" if i < len(names) else v for i, v in enumerate(values) if v]
    return "; ".join(filter(None, values)) + "\n"
