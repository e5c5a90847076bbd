"""The report of a build: one self-contained HTML page made from its summary.

The page needs no network and runs no script (its own security policy forbids both). Every text in it, from a model, a
file name or a recipe, passes through the template's autoescape; nothing is marked as safe. A section whose figures are
missing does not appear. Left out: anything interactive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from parakit.common.files import JsonObject, write_text_atomic
from parakit.common.formatting import byte_size, compact, long_duration, number, percent
from parakit.evaluation.contamination.figures import describe_contamination
from parakit.reports import charts
from parakit.reports.alignment import outcome
from parakit.reports.before_after import stage_effects
from parakit.reports.benchmarks import benchmark_section
from parakit.reports.cards.model_card import against_plan
from parakit.reports.corpus_section import corpus_section
from parakit.reports.documents.section import documents_section
from parakit.reports.formatting import (
    ROLES,
    STAGE_TITLES,
    final_stage,
    forgetting,
    hide_missing,
    humanize,
    larger_vocabulary,
    measured_text,
    merging,
    model_name,
    model_stages,
    next_command,
    quality,
    roles,
    run_plan,
    samples_of,
    shape,
    stage,
    suite_means,
    summary_sentence,
    task,
    tokenizer_section,
    training,
)
from parakit.reports.model_comparisons import (
    figure_rows,
    loss_change,
    sample_rows,
    stage_deltas,
    trained_stages,
)
from parakit.reports.quantization import quantization_section
from parakit.reports.summary_parts import Sample
from parakit.reports.summary_schema import (
    BuildSummary,
    FileLoss,
    MixtureRow,
    TrainingSummary,
)
from parakit.reports.tasks import interval, main_metric, metric_name, metric_value, task_section

CORPUS_PAGE = "corpus.html"
PAGE = Path(__file__).with_name("page")
MAX_ANSWERS = 8
TITLES = {
    "start": "Compared with the published model",
    "suites": "Accuracy on the suites",
    "benchmarks": "Benchmarks",
    "documents": "Answers from documents",
    "stages": "Effect of each stage",
    "before-after": "Before and after each stage",
    "task": "Task metrics",
    "text-quality": "Bits per byte on other texts",
    "quantization": "Quantization",
    "training": "Training",
    "samples": "Samples",
    "tokens": "Tokenizer",
    "corpus": "Corpus",
    "time": "Time",
    "lineage": "Lineage",
    "settings": "Settings",
}


def write_report(summary: BuildSummary, path: str | Path) -> Path:
    """Write the report of a build to `path`, whole or not at all; it links to the page of the corpus next to it."""
    path = Path(path)
    linked = CORPUS_PAGE if path.with_name(CORPUS_PAGE).is_file() else ""
    write_text_atomic(path, render_report(summary, linked))
    return path


def render_report(summary: BuildSummary, corpus_page: str = "") -> str:
    """The report as HTML text. `corpus_page`: the file name of the corpus' page."""
    return page_template("report.html").render(_page(summary) | {"corpus_page": corpus_page})


def page_template(name: str) -> Template:
    """A page's template, with autoescape and the filters that format numbers and names."""
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    filters: tuple[Callable[..., str], ...] = (hide_missing, compact, model_name, number, percent)
    filters += (long_duration, byte_size, humanize, loss_change, describe_contamination)
    for write in filters:
        environment.filters[write.__name__] = write
    return environment.get_template(name)


def _page(summary: BuildSummary) -> JsonObject:
    """Everything that the template shows."""
    page: JsonObject = {
        "s": summary,
        "sentence": summary_sentence(summary),
        "quality": quality(summary),
        "next": next_command(summary),
        "tiles": _tiles(summary),
        "titles": TITLES,
        "roles": roles(summary),
        "models": {role: ROLES.get(role, humanize(role)) for role in roles(summary)},
        "model_names": {name: ROLES.get(name, humanize(name)) for name in model_stages(summary)},
        "means": suite_means(summary),
        "start_rows": figure_rows(summary.against_start),
        "start_samples": sample_rows(summary),
        "suite_rows": charts.suite_rows(summary),
        "answers": _answers(summary),
        "benchmarks": benchmark_section(summary),
        "documents": documents_section(summary),
        "deltas": stage_deltas(summary),
        "effects": stage_effects(summary),
        "task": task_section(summary),
        "evaluations": () if summary.against_start else summary.evaluations,
        "quantization": quantization_section(training(summary, "quantize").quantization),
        "trained": [_trained(summary, name) for name in trained_stages(summary) if stage(summary, name)],
        "samples": _samples(summary),
        "tokenizer": larger_vocabulary(summary) or tokenizer_section(summary),
        "corpus": corpus_section(summary),
        "times": charts.time_slices(summary),
        "time_rows": _time_rows(summary),
        "drawing": charts.lineage_drawing(summary.lineage),
        "box": charts.BOX,
        "settings": _settings(summary),
    }
    shown = {
        "start": page["start_rows"] or page["start_samples"],
        "suites": page["suite_rows"],
        "benchmarks": page["benchmarks"],
        "documents": page["documents"],
        "stages": page["deltas"],
        "before-after": page["effects"],
        "task": page["task"],
        "text-quality": page["evaluations"],
        "quantization": page["quantization"],
        "training": page["trained"],
        "samples": page["samples"],
        "tokens": page["tokenizer"],
        "corpus": page["corpus"],
        "time": page["times"],
        "lineage": page["drawing"],
        "settings": True,
    }
    titles = TITLES | ({"task": page["task"].title} if page["task"] else {})
    return page | {"contents": [(key, titles[key]) for key, there in shown.items() if there]}


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page."""

    name: str
    value: str
    note: str


def _tiles(summary: BuildSummary) -> list[Tile]:
    """The few figures that a reader wants first."""
    tiles = []
    if main := main_metric(summary):
        between = interval(main)
        note = f"95 % between {between}" if between else "on held-out examples"
        title = metric_name(main)
        tiles.append(Tile(title[0].upper() + title[1:], metric_value(main), note))
    tiles += _suite_tiles(summary)
    pretrain = training(summary, "pretrain")
    if pretrain.bits_per_byte is not None:
        perplexity = pretrain.perplexity
        note = f"{measured_text(pretrain)} alone" + (
            "" if perplexity is None else f", perplexity {number(perplexity)} per token"
        )
        tiles.append(Tile("Bits per byte", number(pretrain.bits_per_byte), note))
    last = final_stage(summary)
    final = training(summary, last)
    if final.parameters is not None:
        tokens = pretrain.tokens if stage(summary, "pretrain") else final.tokens
        note = "" if tokens is None else f"trained on {compact(tokens)} tokens"
        if last == "distill" and pretrain.parameters is not None:
            note = f"distilled from {compact(pretrain.parameters)}"
        tiles.append(Tile("Parameters", compact(final.parameters), note))
    if summary.seconds is not None:
        hardware = summary.hardware
        n_cores = hardware.get("cores")
        cores = f"{n_cores} processor core{'s' * (n_cores != 1)}" if n_cores else ""
        note = str(hardware.get("accelerator") or cores)
        tiles.append(Tile("Time, all stages", long_duration(summary.seconds), note))
    return tiles


def _suite_tiles(summary: BuildSummary) -> list[Tile]:
    means = suite_means(summary)
    if not means:
        return []
    best = roles(summary)[-1]
    tuned = best != "base" and "base" in means
    note = f"{percent(means['base'])} before tuning" if tuned else "mean over the suites"
    if best != "start" and "start" in means:
        note = f"{percent(means['start'])} of the published model"
    scores = {name: results[best].accuracy for name, results in summary.suites.items() if best in results}
    weakest = min(scores, key=lambda name: scores[name])
    return [
        Tile("Right answers", percent(means[best]), note),
        Tile("Weakest suite", percent(scores[weakest]), humanize(weakest)),
    ]


@dataclass(frozen=True)
class Answers:
    """A question with the completions of every model: role, text, and whether it is correct."""

    prompt: str
    answer: str
    completions: list[tuple[str, str, bool]]


def _answers(summary: BuildSummary) -> list[tuple[str, list[Answers]]]:
    """Per suite: each question once, with every model's completion."""
    suites = []
    for suite, results in summary.suites.items():
        turns: dict[str, Answers] = {}
        for role in roles(summary):
            for sample in results[role].samples if role in results else ():
                turn = turns.setdefault(sample.prompt, Answers(sample.prompt, sample.answer, []))
                turn.completions.append((role, sample.completion, bool(sample.correct)))
        if turns:
            suites.append((humanize(suite), list(turns.values())[:MAX_ANSWERS]))
    return suites


@dataclass(frozen=True)
class TrainedStage:
    """One training stage: a line of figures and its plots."""

    title: str
    line: str
    plots: list[charts.Plot]
    mixture: tuple[MixtureRow, ...] = ()
    file_losses: tuple[FileLoss, ...] = ()
    progress: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """By prompt: what the model wrote after so many tokens."""


def _progress(figures: TrainingSummary) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The completions of each prompt in the order of the run; none of a single point, which the samples have."""
    if len(figures.samples_by_step) < 2:
        return ()
    by_prompt: dict[str, list[tuple[str, str]]] = {}
    for point in figures.samples_by_step:
        for sample in point.samples:
            when = f"{compact(point.tokens)} tokens"
            by_prompt.setdefault(sample.prompt, []).append((when, sample.completion))
    return tuple((prompt, tuple(rows)) for prompt, rows in by_prompt.items())


def _size_of_first(summary: BuildSummary) -> JsonObject | None:
    first = training(summary, "pretrain")
    return first.config or first.plan


def _trained(summary: BuildSummary, name: str) -> TrainedStage:
    figures = training(summary, name)
    size = figures.config or figures.plan
    parts = ["" if name != "pretrain" and size == _size_of_first(summary) else shape(size), run_plan(figures)]
    if figures.tokens is not None:
        parts.append(f"{compact(figures.tokens)} tokens in {long_duration(figures.seconds)}")
    if figures.tokens_per_second is not None:
        parts.append(f"{compact(figures.tokens_per_second)} tokens per second")
    if figures.share_of_peak is not None:
        parts.append(f"{percent(figures.share_of_peak)} of the machine's measured peak")
    if figures.loss is not None:
        parts.append(f"validation loss {number(figures.loss)} {figures.loss_unit}")
    parts += [line[0].lower() + line[1:] for line in against_plan(figures)]
    parts += [*outcome(figures), forgetting(figures), merging(figures)]
    return TrainedStage(
        _stage_title(summary, name),
        "; ".join(part for part in parts if part),
        charts.training_plots(figures),
        figures.mixture,
        figures.file_losses,
        _progress(figures),
    )


def _samples(summary: BuildSummary) -> list[tuple[str, str, list[Sample]]]:
    """Per model: a title, what separates prompt and completion, and the samples. With a published model they are shown
    next to its own, prompt by prompt.
    """
    if "start" in model_stages(summary):
        return []
    groups = []
    for name in model_stages(summary).values():
        title = _stage_title(summary, name)
        samples = list(samples_of(summary, name))
        if samples:
            gap = "" if name == "pretrain" else "\n"
            groups.append((f"After {title[0].lower()}{title[1:]}", gap, samples))
    return groups


def _stage_title(summary: BuildSummary, name: str) -> str:
    if name == "pretrain" and "start" in summary.models:
        return "Continued pre-training"
    if name in STAGE_TITLES:
        return STAGE_TITLES[name]
    if name != "finetune":
        return humanize(name).capitalize()
    if task(summary) == "chat":
        return "Fine-tuning on conversations"
    return (
        "Fine-tuning on examples"
        if {"base", "start"} & set(model_stages(summary))
        else "Training on examples"
    )


def _time_rows(summary: BuildSummary) -> JsonObject:
    """The table of times: columns that no stage fills are left out."""
    columns = {
        "predicted": ("predicted_seconds", long_duration),
        "tokens": ("tokens", compact),
        "parameters": ("parameters", compact),
        "tokens per second": ("tokens_per_second", compact),
        "share of peak": ("share_of_peak", percent),
    }
    stages = {name: figures for name, figures in summary.stages.items() if figures.model_fields_set}
    optional = ("predicted", "share of peak")
    shown = {
        title: (key, write)
        for title, (key, write) in columns.items()
        if title not in optional
        or any(getattr(figures, key, None) is not None for figures in stages.values())
    }
    rows = [
        (
            name,
            long_duration(figures.seconds),
            [hide_missing(write(getattr(figures, key, None))) for key, write in shown.values()],
        )
        for name, figures in stages.items()
    ]
    return {"titles": list(shown), "rows": rows}


def _settings(summary: BuildSummary) -> list[tuple[str, str]]:
    groups: list[tuple[str, Mapping[str, Any]]] = [
        ("Recipe, with every default", summary.recipe),
        ("Machine and versions", {**summary.hardware, **summary.versions}),
    ]
    return [(title, "\n".join(_lines(group))) for title, group in groups if group]


def _lines(value: Mapping[str, Any], indent: str = "") -> list[str]:
    """A nested mapping as YAML is written."""
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {item}")
    return lines
