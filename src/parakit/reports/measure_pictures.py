"""Pictures of two measures as SVG files: the reliability diagram of `calibration` and the table of `needle`.

The text is written by hand, without a library of plots, so that the same result gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import read_json, write_text_atomic
from parakit.evaluation.metrics.calibration import reliability
from parakit.evaluation.results import RESULTS, BenchmarkResult, read_result

SIDE = 400  # pixels of the square of a reliability diagram
CELL = (64, 34)  # of a needle's cell
BLUE = "#2f6f9f"


def write_picture(evaluation: Path, name: str, path: Path) -> Path:
    """Draw the measure `name` of an evaluation folder into the SVG file `path`; `UserError` for one without a picture."""
    results = read_json(evaluation / RESULTS)
    if name not in results.get("benchmarks", {}):
        raise UserError(f"{evaluation} has no result of {name}", f"parakit evaluate MODEL --tasks {name}")
    drawings = {"calibration": reliability_diagram, "needle": needle_table}
    if name not in drawings:
        raise UserError(f"{name} has no picture", f"pictures exist of {' and '.join(drawings)}")
    write_text_atomic(path, drawings[name](read_result(evaluation, name, results)))
    return path


def reliability_diagram(result: BenchmarkResult) -> str:
    """Accuracy by confidence in ten bins, as bars; the diagonal is a calibrated model. Darker bars have more answers."""
    confidence, correct = (
        np.array([item.scores[key] for item in result.items]) for key in ("confidence", "accuracy")
    )
    bins = reliability(confidence, correct)
    most = max(one.n for one in bins)
    bars = []
    for one in bins:
        x, width, height = 60 + SIDE * one.low, SIDE * (one.high - one.low), SIDE * one.accuracy
        bars.append(
            f'<rect x="{x:.1f}" y="{20 + SIDE - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}"'
            f' fill="{BLUE}" fill-opacity="{0.25 + 0.75 * one.n / most:.2f}"><title>{one.n} answers</title></rect>'
        )
    line = (
        f'<line x1="60" y1="{20 + SIDE}" x2="{60 + SIDE}" y2="20" stroke="#888" stroke-dasharray="5 4"/>'
        f'<rect x="60" y="20" width="{SIDE}" height="{SIDE}" fill="none" stroke="#444"/>'
    )
    labels = [_text(60 + SIDE * i / 5, 38 + SIDE, f"{i / 5:g}") for i in range(6)]
    labels += [_text(54, 24 + SIDE * (1 - i / 5), f"{i / 5:g}", "end") for i in range(6)]
    error = result.scores["ece"]
    caption = f"ECE {error.value:.3f} ({error.low:.3f} to {error.high:.3f}), {result.n} answers"
    labels += [
        _text(60 + SIDE / 2, 58 + SIDE, "confidence"),
        _text(60 + SIDE / 2, 14, f"accuracy; {caption}"),
    ]
    return _svg(SIDE + 80, SIDE + 70, [*bars, line, *labels])


def needle_table(result: BenchmarkResult) -> str:
    """The share of needles found: a row for each depth, a column for each length."""
    cells = {
        tuple(part.split()[0] for part in group.split(",")): scores for group, scores in result.groups.items()
    }
    lengths, depths = (sorted({int(key[i]) for key in cells}) for i in (0, 1))
    width, height = CELL
    parts = []
    for column, length in enumerate(lengths):
        parts.append(_text(90 + width * (column + 0.5), 40, str(length)))
        for row, depth in enumerate(depths):
            x, y = 90 + width * column, 50 + height * row
            if column == 0:
                parts.append(_text(84, y + height / 2 + 5, f"{depth} %", "end"))
            score = cells.get((str(length), str(depth)))
            if score is not None:
                share = score["found"].value
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{width - 2}" height="{height - 2}" fill="{_colour(share)}"/>'
                )
                parts.append(_text(x + width / 2, y + height / 2 + 5, f"{100 * share:.0f}"))
    parts.append(_text(90 + width * len(lengths) / 2, 18, "found, in %, by tokens of the text and depth"))
    return _svg(max(110 + width * len(lengths), 340), 70 + height * len(depths), parts)


def _colour(share: float) -> str:
    """From white to blue."""
    red, green, blue = (round(255 + share * (to - 255)) for to in (0x8F, 0xBB, 0xDD))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        ' font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])
