"""Tables of a sweep that can go into a paper: Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from parakit.common.formatting import MISSING, number, short_keys
from parakit.reports.sweeps.figures import SHARE, Figure, Mean, SweepResults

MAX_COLUMNS = 6  # of a table that fits a page
Table = tuple[list[str], list[list[str]]]
"""Heading and rows, as plain text with ± for intervals."""


def headline_tables(results: SweepResults) -> list[Table]:
    """The figures that come first, of each setting; next to one another as many as fit a page."""
    if not results.varied:
        rows = [
            [_heading(figure), _cell(results, 0, figure), _n(results, 0, [figure])]
            for figure in results.headlines
        ]
        return [(["figure", "mean", "seeds"], rows)]
    return [
        (
            [*short_keys(results.varied).values(), *(_heading(figure) for figure in figures), "seeds"],
            [
                [
                    *_values(results, setting),
                    *(_cell(results, setting, figure) for figure in figures),
                    _n(results, setting, figures),
                ]
                for setting in range(len(results.settings))
            ],
        )
        for figures in _chunks(results.headlines, MAX_COLUMNS)
    ]


def full_tables(results: SweepResults) -> list[Table]:
    """Every figure, a row each; a table for as many settings as fit a page."""
    headings = results.labels if results.varied else ["mean"]
    return [
        (
            ["figure", *(headings[setting] for setting in settings)],
            [
                [_heading(figure), *(_cell(results, setting, figure) for setting in settings)]
                for figure in results.figures
            ],
        )
        for settings in _chunks(range(len(results.settings)), MAX_COLUMNS)
    ]


def note(results: SweepResults) -> str:
    """What the numbers are."""
    seeds = ", ".join(map(str, results.seeds))
    failed = sum(run.status != "done" for run in results.runs)
    words = f"Seeds: {seeds}. "
    if len(results.seeds) > 1:
        words += "After ±: half the width of the 95 % interval of the mean over the seeds (Student's t). "
    else:
        words += "One seed: nothing shows how much of a difference is luck; --seeds 5 does. "
    if any(figure.unit == SHARE for figure in results.figures):
        words += "Shares are in per cent. "
    if len(results.settings) > 1:
        words += "The best of many settings is too good by luck on the data that chose it: confirm it on other data. "
    return (
        words + (f"{failed} of {len(results.runs)} runs failed and do not count." if failed else "")
    ).strip()


def markdown(results: SweepResults) -> str:
    """All tables in Markdown."""
    parts = [f"# {results.name}", note(results)]
    parts += [_markdown(table) for table in headline_tables(results)]
    parts += ["## Every figure", *(_markdown(table) for table in full_tables(results))]
    return "\n\n".join(parts) + "\n"


def latex(results: SweepResults) -> str:
    """All tables in LaTeX; they need the package booktabs."""
    tables = [("Main figures", table) for table in headline_tables(results)]
    tables += [("Every figure", table) for table in full_tables(results)]
    parts = ["% \\usepackage{booktabs}"]
    for number_of, (title, (heading, rows)) in enumerate(tables, 1):
        n_left = len(results.varied) if title == "Main figures" and results.varied else 1
        parts.append(
            "\n".join(
                [
                    "\\begin{table}",
                    "\\centering",
                    f"\\caption{{{_tex(results.name)}: {title.lower()}. {_tex(note(results))}}}",
                    f"\\label{{tab:{plain_name(results.name)}-{number_of}}}",
                    f"\\begin{{tabular}}{{{'l' * n_left}{'r' * (len(heading) - n_left)}}}",
                    "\\toprule",
                    " & ".join(map(_tex, heading)) + " \\\\",
                    "\\midrule",
                    *(" & ".join(map(_tex, row)) + " \\\\" for row in rows),
                    "\\bottomrule",
                    "\\end{tabular}",
                    "\\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def comma_separated(results: SweepResults) -> str:
    """A row for each setting and figure, unrounded, with the value of every seed; shares are of 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *results.varied,
            "figure",
            "model",
            "unit",
            "n",
            "mean",
            "low",
            "high",
            *(f"seed_{s}" for s in results.seeds),
        ]
    )
    for setting, values in enumerate(results.settings):
        for figure in results.figures:
            found, by_seed = results.mean(setting, figure), results.of(setting, figure)
            if found is not None:
                ends = [found.low, found.high] if math.isfinite(found.low) else ["", ""]
                writer.writerow(
                    [
                        *(values[key] for key in results.varied),
                        *(figure.name, figure.model, figure.unit, found.n, found.mean, *ends),
                        *(by_seed.get(seed, "") for seed in results.seeds),
                    ]
                )
    return text.getvalue()


def with_interval(found: Mean, unit: str) -> str:
    """A mean with as many digits as its interval allows: 0.4127 ± 0.0034, in per cent 81.2 ± 1.3."""
    scale = 100 if unit == SHARE else 1
    mean, half = scale * found.mean, found.half
    if half is None:
        return f"{mean:.1f}" if unit == SHARE else number(mean, 4)
    half *= scale
    if unit == SHARE:
        digits = 1 if half >= 0.095 or half == 0 else 2
    else:
        digits = 4 if half == 0 else min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _cell(results: SweepResults, setting: int, figure: Figure) -> str:
    found = results.mean(setting, figure)
    return MISSING if found is None else with_interval(found, figure.unit)


def _n(results: SweepResults, setting: int, figures: Sequence[Figure]) -> str:
    """Of how many runs the figures are; the fewest and the most where that differs."""
    counts = {found.n if (found := results.mean(setting, figure)) else 0 for figure in figures}
    return "–".join(map(str, sorted({min(counts), max(counts)})))


def _heading(figure: Figure) -> str:
    return f"{figure.title}, %" if figure.unit == SHARE else figure.title


def _values(results: SweepResults, setting: int) -> list[str]:
    return [str(results.settings[setting][key]) for key in results.varied]


def _chunks(values: Sequence[Figure] | range, size: int) -> list[list]:
    return [list(values[i : i + size]) for i in range(0, len(values), size)]


def _markdown(table: Table) -> str:
    heading, rows = table

    def escaped(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)


_TEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "±": "$\\pm$",
    "–": "--",
}
_TEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text.replace("\n", " "))


def plain_name(text: str) -> str:
    """A name for files and labels: letters and digits, and dashes for all else."""
    return "".join(character if character.isalnum() else "-" for character in text)
