"""Tables of results that several commands print.

What words the figures of evaluations is imported where it is used: it loads numpy and the pages' templates, which would be
half of the start of `parakit build`.
"""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.evaluation.comparison.config import CompareConfig
from parakit.reports.summary_parts import TaskSummary
from parakit.reports.tasks import interval, metric_name, metric_value


def show_task(task: TaskSummary | None, console: Console) -> None:
    """Print the metrics of a task on its held-out examples; nothing where there are none."""
    if not task:
        return
    console.print(escape(f"{task.task}: {task.n:,} examples, {task.split}"), highlight=False)
    table = Table("metric", "value", "95 % interval")
    for metric in task.figures:
        table.add_row(metric_name(metric), metric_value(metric), interval(metric))
    console.print(table)
    for metric in task.figures:
        if metric.note:
            console.print(escape(f"{metric_name(metric)}: {metric.note}"), highlight=False, soft_wrap=True)


def show_comparison(found: JsonObject, config: CompareConfig, console: Console) -> None:
    """Print one model against the reference: every score with its verdict, what its items detect, and the whole verdict."""
    from parakit.evaluation.comparison.outcome import ScoreComparison
    from parakit.reports.comparison_page import difference_text, needed_text, p_text, score_name, value_text

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


def show_preferences(found: JsonObject, console: Console) -> None:
    """The figures of a reward model on preferences."""
    table = Table("ranking by", "accuracy", "95 % interval")
    interval = f"{found['low']:.1%} to {found['high']:.1%}"
    table.add_row("this model", f"{found['accuracy']:.1%}", interval)
    longer = "longer" if found["longer_is_better"] >= 0.5 else "shorter"
    table.add_row(f"the {longer} answer", f"{found['length_baseline']:.1%}", "")
    table.add_row("guessing", f"{found['chance']:.1%}", "")
    console.print(table)
    for name, value in (
        ("pairs", f"{found['pairs']:,} of {found['rankings']:,} rankings"),
        ("calibration error", f"{found['calibration_error']:.1%}"),
        ("accuracy where the better answer is longer", percent(found["accuracy_where_longer"], space="")),
        ("accuracy where it is shorter", percent(found["accuracy_where_shorter"], space="")),
        ("rank correlation of reward and length", f"{found['length_correlation']:+.2f}"),
    ):
        console.print(f"{name}: {value}", highlight=False)


def show_benchmarks(benchmarks: JsonObject, console: Console) -> None:
    """Every score of every benchmark with its interval; the score that stands for a benchmark is marked with an asterisk."""
    from parakit.evaluation.contamination.figures import contamination_share

    table = Table(
        caption="* the score that stands for the benchmark; shots: examples in a prompt;"
        " leaked: items that are in the searched text"
    )
    table.add_column("benchmark", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("value", "95 % interval", "items", "shots", "leaked"):
        table.add_column(heading, no_wrap=True)
    notes = []
    for name, found in benchmarks.items():
        protocol = found["protocol"]
        shots = f"{protocol['n_shots']}{', chat' if protocol['prompting'] == 'chat' else ''}"
        for metric, score in found["scores"].items():
            mark = "* " if metric == found["main"] else ""
            low, high = score_text(score["low"]), score_text(score["high"])
            value = score_text(score["value"])
            table.add_row(
                escape(name),
                mark + escape(metric),
                value,
                f"{low} to {high}",
                f"{score['n']:,}",
                shots,
                contamination_share(found["contamination"]),
            )
        notes += contamination_notes(name, found["contamination"], found["main"])
        if found["n_truncated"]:
            notes.append(
                f"{name}: {found['n_truncated']:,} of {found['n']:,} prompts were longer than the context window "
                "and lost their beginning"
            )
    console.print(table)
    for note in notes:
        console.print(escape(note), highlight=False, soft_wrap=True)


def show_suites(suites: JsonObject, console: Console) -> None:
    """Accuracy on each of the primer's suites."""
    from parakit.evaluation.contamination.figures import contamination_share

    table = Table("suite", "right", "95 % interval", "items", "asked as", "leaked")
    notes = []
    for name, suite in suites.items():
        found = suite.get("contamination")
        table.add_row(
            name,
            f"{suite['accuracy']:.1%}",
            f"{suite['low']:.1%} to {suite['high']:.1%}",
            str(suite["n"]),
            suite["prompting"],
            contamination_share(found),
        )
        notes += contamination_notes(name, found, "right")
    console.print(table)
    for note in notes:
        console.print(escape(note), highlight=False, soft_wrap=True)


def score_text(value: float) -> str:
    """A score: a share in percent, other figures with three digits behind the point."""
    return f"{value:.1%}" if 0 <= value <= 1 else f"{value:,.3f}"


def contamination_notes(name: str, found: JsonObject | None, metric: str) -> list[str]:
    """What there is to say of items in the searched text: how many, and the score without them."""
    if found is None or not found.get("n_touched"):
        return []
    line = f"{name}: {found['n_touched']:,} of {found['n']:,} items are in the searched text"
    line += f" (nearly all of {found['n_most']:,}, with the answer {found['n_with_answer']:,})"
    if score := found["scores_without"].get(metric):
        low, high = score_text(score["low"]), score_text(score["high"])
        line += f"; without them {metric} is {score_text(score['value'])} ({low} to {high})"
    return [line]
