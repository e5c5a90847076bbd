"""Matrices of tokens, and grids of heads, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.rendering.safe_text import plain

CELL = 3  # letters of a matrix' column
LABEL = 14
N_LINKS = 4
WARM = (194, 80, 15)  # the color of 100 percent


def show_matrix(title: str, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
    """A heat map (T, S) with its numbers, where it is as wide as the terminal, else each row's largest values. Values above
    one are shown in percent of the greatest.
    """
    console = Console()
    console.print(Text(title, style="bold"))
    share = matrix / max(1.0, float(matrix.max()))
    if LABEL + CELL * len(columns) <= console.width:
        console.print(_heat_map(share, rows, columns), soft_wrap=True)
        return
    table = Table("token", "looks at", box=None)
    for token, values in zip(rows, share, strict=True):
        best = np.argsort(-values)[:N_LINKS]
        links = [f"{label(columns[i])} {100 * values[i]:.0f}" for i in best if values[i] >= 0.005]
        table.add_row(Text(label(token)), Text("   ".join(links)))
    console.print(table)


def _heat_map(share: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Text:
    """A row for each query; a column's token is the one of the row with its number where both are the same tokens."""
    text = Text(" " * LABEL)
    text.append("".join(f"{i:>{CELL}}" for i in range(len(columns))) + "\n", style="dim")
    for number, (token, values) in enumerate(zip(rows, share, strict=True)):
        text.append(f"{number:>3} " if list(rows) == list(columns) else "    ", style="dim")
        text.append(f"{label(token, LABEL - 5):<{LABEL - 4}}")
        for value in values:
            percent = round(100 * float(value))
            text.append(f"{min(percent, 99) or '·':>{CELL}}", style=_style(float(value)))
        text.append("\n")
    if list(rows) != list(columns):
        text.append("    " + "  ".join(f"{i} {label(token)}" for i, token in enumerate(columns)), style="dim")
    return text


def _style(value: float) -> str:
    """A warmer background for more; the root, so that small values show."""
    if value < 0.01:
        return "dim"
    red, green, blue = (round(255 - (255 - full) * min(1.0, value) ** 0.5) for full in WARM)
    return f"black on rgb({red},{green},{blue})"


def label(token: str, width: int = 12) -> str:
    """A token in one line of at most `width` letters."""
    text = plain(token).replace("\n", "⏎").replace("\t", "⇥").strip() or "␣"
    return text if len(text) <= width else text[: width - 1] + "…"


def show_grid(title: str, rows: dict[str, np.ndarray], digits: int = 2) -> None:
    """Values of heads: a row for each layer, a column for each head. Warm: positive, blue: negative."""
    console = Console()
    console.print(Text(title, style="bold"))
    greatest = max((float(np.abs(values).max()) for values in rows.values() if len(values)), default=1.0)
    width = digits + 4
    n_heads = max(map(len, rows.values()))
    text = Text(f"{'':<28}" + "".join(f"{head:>{width}}" for head in range(n_heads)) + "\n", style="dim")
    for name, values in rows.items():
        text.append(f"{name:<28}")
        for value in values:
            share = abs(float(value)) / max(greatest, 1e-12)
            style = (
                "dim" if share < 0.05 else _style(share) if value > 0 else f"blue{' bold' * (share > 0.5)}"
            )
            text.append(f"{value:>{width}.{digits}f}", style=style)
        text.append("\n")
    console.print(text, soft_wrap=True)
