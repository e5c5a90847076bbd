"""The report's section on the benchmarks of a recipe: every model's main score, what it belongs to, and its contamination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.formatting import number, percent
from parakit.evaluation.contamination.figures import contamination_share, describe_contamination
from parakit.evaluation.family import guessing
from parakit.reports.charts import SuiteBar, SuiteRow
from parakit.reports.formatting import ROLES, humanize
from parakit.reports.summary_parts import BenchmarkScore, BenchmarkSummary
from parakit.reports.summary_schema import BuildSummary

DIGEST_CHARS = 12


@dataclass(frozen=True)
class BenchmarkRow:
    """One model on one benchmark, as text. `prompts`: shots and form; `without`: the score without the items that are in
    the training text.
    """

    name: str
    model: str
    metric: str
    value: str
    interval: str
    n: str
    prompts: str
    task: str
    digest: str
    contamination: str
    without: str


@dataclass(frozen=True)
class BenchmarkSection:
    """What the page shows: bars of scores that are shares, a row for each score, and prompts that were cut."""

    bars: list[SuiteRow]
    rows: list[BenchmarkRow]
    notes: list[str]


def benchmark_section(summary: BuildSummary) -> BenchmarkSection | None:
    """The section; None where the recipe has no tasks."""
    if not summary.benchmarks:
        return None
    bars, rows, notes = [], [], []
    for name, results in summary.benchmarks.items():
        if all(is_share(one) for one in results.values()):
            chance = guessing(name)
            found = [_bar(role, one) for role, one in results.items()]
            bars.append(SuiteRow(name, found, None if chance is None else 100 * chance))
        for role, one in results.items():
            rows.append(_row(name, role, one))
            if one.n_truncated:
                notes.append(
                    f"{name}, {rows[-1].model}: {number(one.n_truncated)} of {number(one.n)} prompts were longer than"
                    " the context window and lost their beginning."
                )
    return BenchmarkSection(bars, rows, notes)


def benchmark_lines(summary: BuildSummary) -> list[str]:
    """Each benchmark with every model's main score, for the terminal."""
    lines = []
    for name, results in summary.benchmarks.items():
        each = [
            f"{role} {_text(one, one.value)} ({_interval(one)}; leaked: {contamination_share(one.contamination)})"
            for role, one in results.items()
        ]
        lines.append(f"{name}, {next(iter(results.values())).metric}: {'; '.join(each)}")
    return lines


def is_share(score: BenchmarkScore) -> bool:
    """Whether the value is printed in percent."""
    return score.low >= 0 and score.high <= 1


def prompt_form(protocol: Mapping[str, Any]) -> str:
    """Shots, form and system prompt in a few words."""
    if not protocol:
        return ""
    shots = protocol["n_shots"]
    parts = [
        f"{shots} shot{'' if shots == 1 else 's'}",
        "chat template" if protocol["prompting"] == "chat" else "plain text",
    ]
    return ", ".join(parts + (["system prompt"] if protocol.get("system_prompt") else []))


def _row(name: str, role: str, one: BenchmarkSummary) -> BenchmarkRow:
    protocol, found = one.protocol, one.contamination
    without = ((found or {}).get("scores_without") or {}).get(one.metric)
    alone = BenchmarkScore(**without) if without else None
    return BenchmarkRow(
        name=name,
        model=ROLES.get(role, humanize(role)),
        metric=one.metric,
        value=_text(one, one.value),
        interval=_interval(one),
        n=number(one.n),
        prompts=prompt_form(protocol),
        task=f"version {protocol['version']}, {protocol['program']}" if protocol else "",
        digest=str(protocol.get("prompts_digest", ""))[:DIGEST_CHARS],
        contamination=describe_contamination(found),
        without=f"{_text(alone, alone.value)} ({_interval(alone)})" if alone else "",
    )


def _bar(role: str, one: BenchmarkSummary) -> SuiteBar:
    share, low, high = (round(100 * bound, 2) for bound in (one.value, one.low, one.high))
    return SuiteBar(role, share, low, high, f"{_text(one, one.value)}, 95 % between {_interval(one)}")


def _text(score: BenchmarkScore, value: float) -> str:
    return percent(value) if is_share(score) else number(value, 4)


def _interval(score: BenchmarkScore) -> str:
    return f"{_text(score, score.low)} – {_text(score, score.high)}"
