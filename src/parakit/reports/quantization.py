"""What a quantization cost, as rows of a table, and how much each matrix matters, as a picture."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from parakit.common.formatting import byte_size, number, percent

CELL, LEFT, TOP = 22, 150, 34
_COLOURS = ("#f4f1ea", "#f7dfb0", "#efb366", "#d9773f", "#a63d2b")


def quantization_rows(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What was measured, the original's figure and the quantized model's."""
    size, speed, text = figures["size"], figures["speed"], figures["divergence"]
    rows = [
        ("weights, float32 first", byte_size(size["original_bytes"]), f"{byte_size(size['bytes'])}"),
        ("times smaller", "1", f"{size['ratio']:.2f}"),
        ("bits a weight, scales included", "32", f"{size['bits_per_weight']:.2f}"),
        (
            "decoding, tokens a second",
            number(speed["original_tokens_per_second"]),
            number(speed["tokens_per_second"]),
        ),
        ("perplexity", f"{text['original_perplexity']:.3f}", f"{text['perplexity']:.3f}"),
        ("KL to the original, nats a token", "0", f"{text['kl']:.5f}"),
        ("the same token likeliest", "", percent(text["top_token_equal"])),
        ("KL with an int8 cache too", "", f"{figures['int8_cache']['kl']:.5f}"),
    ]
    before, after = figures["suites"]["original"], figures["suites"]["quantized"]
    return rows + [(f"suite {name}", percent(before[name]), percent(after[name])) for name in before]


def quantization_notes(figures: Mapping[str, Any]) -> list[str]:
    """What the figures are of, and which matrices are not as they were set."""
    text, layers = figures["divergence"], figures["layers"]
    notes = [f"Measured on {number(text['n_tokens'])} tokens of {text['text']}."]
    if figures["calibration"]:
        calibration = figures["calibration"]
        notes.append(f"Calibrated on {number(calibration['n_tokens'])} tokens of {calibration['text']}.")
    notes.append(", ".join(f"{n} matrices: {scheme}" for scheme, n in layers["schemes"].items()) + ".")
    by_reason: dict[str, list[str]] = {}
    for name, reason in layers["notes"].items():
        by_reason.setdefault(reason, []).append(name.removeprefix("trunk."))
    for reason, names in by_reason.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"{', '.join(names[:3])}{more}: {reason}.")
    cache = "costs next to nothing" if figures["int8_cache"]["recommended"] else "costs accuracy"
    notes.append(f"A key-value cache in int8 {cache} on this text.")
    return notes


def quantization_section(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rows, notes and picture of a report; None for a build that quantizes nothing."""
    if not figures:
        return None
    return {
        "rows": quantization_rows(figures),
        "notes": quantization_notes(figures),
        "picture": sensitivity_svg(figures["sensitivity"]),  # made of numbers and of escaped names
    }


def sensitivity_rows(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The matrices by how much they matter, the most first."""
    return sorted(figures["sensitivity"], key=lambda row: (-row["kl"], row["name"]))


def sensitivity_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """A cell for each matrix, blocks from left to right, darker where quantizing it alone changes more; a frame where it got 8
    bits instead of 4. Empty without rows.
    """
    fewest = min((row["bits"] for row in rows), default=0)
    kl = {row["name"]: row["kl"] for row in rows if row["bits"] == fewest}
    wider = {row["name"] for row in rows if row["bits"] > fewest and row["chosen"]}
    places = {name: _place(name) for name in kl}
    if not places:
        return ""
    kinds = list(dict.fromkeys(kind for kind, _ in places.values()))
    n_blocks = 1 + max(block for _, block in places.values())
    low, high = _range(kl.values())
    cells = [
        _cell(kinds.index(kind), block, name, kl[name], _shade(kl[name], low, high), name in wider)
        for name, (kind, block) in places.items()
    ]
    labels = [
        f'<text x="{LEFT - 6}" y="{TOP + CELL * i + 15}" text-anchor="end">{html.escape(kind)}</text>'
        for i, kind in enumerate(kinds)
    ]
    width, height = LEFT + CELL * n_blocks + 10, TOP + CELL * len(kinds) + 30
    frame = "; with a frame: 8 bits" if wider else ""
    title = f"KL when one matrix alone has {fewest} bits: {low:.1e} (pale) to {high:.1e} nats a token{frame}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 560)}" height="{height}"'
            ' font-family="sans-serif" font-size="11">',
            f'<text x="6" y="16">{html.escape(title)}</text>',
            *labels,
            *cells,
            f'<text x="{LEFT}" y="{height - 12}">blocks, first to last</text>',
            "</svg>\n",
        ]
    )


def _cell(row: int, column: int, name: str, kl: float, colour: str, has_frame: bool) -> str:
    stroke = ' stroke="#222222" stroke-width="2"' if has_frame else ' stroke="#ffffff"'
    return (
        f'<rect x="{LEFT + CELL * column}" y="{TOP + CELL * row}" width="{CELL - 2}" height="{CELL - 2}"'
        f' fill="{colour}"{stroke}><title>{html.escape(name)}: {kl:.2e}</title></rect>'
    )


def _place(name: str) -> tuple[str, int]:
    """The row and the column of a matrix."""
    parts = name.split(".")
    if "blocks" in parts:
        at = parts.index("blocks")
        return ".".join(parts[at + 2 :]), int(parts[at + 1])
    return parts[-1], 0


def _range(values: Any) -> tuple[float, float]:
    positive = [max(value, 1e-9) for value in values]
    return min(positive), max(positive)


def _shade(kl: float, low: float, high: float) -> str:
    spread = math.log(high / low) or 1.0
    share = math.log(max(kl, low) / low) / spread
    return _COLOURS[min(len(_COLOURS) - 1, int(share * len(_COLOURS)))]
