"""The README.md of a model folder: what the model is, how good it is, what it was made from, how to use it.

Markdown with the front matter that model hubs read. Text from outside (names, samples) is escaped, because software that
renders HTML may show a card.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size, compact, long_duration, number, percent
from parakit.common.hardware import describe_hardware, parakit_version
from parakit.reports.alignment import outcome
from parakit.reports.before_after import effect, shorten
from parakit.reports.formatting import (
    ROLE_OF_STAGE,
    forgetting,
    humanize,
    machine,
    measured_text,
    merging,
    run_plan,
    shape,
    stage,
    suite_means,
)
from parakit.reports.quantization import quantization_notes, quantization_rows
from parakit.reports.summary_schema import BuildSummary, CorpusSummary, TrainingSummary
from parakit.reports.tasks import interval, metric_name, metric_value


@dataclass(frozen=True)
class CardUsage:
    """How a model of a family and task is called, and how it is used."""

    role: str
    what: str
    pipeline: str  # as model hubs name it
    auto: str  # transformers' class
    command: str


_ASK = 'parakit predict FOLDER --text "..."'
_LABELS = "AutoModelForSequenceClassification"
# By family and task; None: pre-trained only.
USAGES: dict[tuple[str, str | None], CardUsage] = {
    ("decoder", None): CardUsage(
        "base model",
        "A decoder language model",
        "text-generation",
        "AutoModelForCausalLM",
        "parakit generate FOLDER",
    ),
    ("decoder", "chat"): CardUsage(
        "instruction-tuned model",
        "A decoder language model",
        "text-generation",
        "AutoModelForCausalLM",
        "parakit chat FOLDER",
    ),
    ("decoder", "reward"): CardUsage(
        "reward model",
        "A decoder that scores answers",
        "text-classification",
        _LABELS,
        "parakit evaluate FOLDER --preferences FILE",
    ),
    ("encoder", None): CardUsage(
        "base model",
        "An encoder that fills masked tokens",
        "fill-mask",
        "AutoModelForMaskedLM",
        'parakit predict FOLDER --text "... [MASK] ..."',
    ),
    ("encoder-decoder", None): CardUsage(
        "base model",
        "An encoder-decoder",
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        "parakit finetune FOLDER --task translate --examples FILE --output OTHER",
    ),
    ("encoder-decoder", "translate"): CardUsage(
        "translator", "An encoder-decoder", "translation", "AutoModelForSeq2SeqLM", _ASK
    ),
}
for _family, _name in (("encoder", "An encoder"), ("decoder", "A decoder")):
    USAGES[_family, "classify"] = CardUsage("classifier", _name, "text-classification", _LABELS, _ASK)
    USAGES[_family, "regress"] = CardUsage("regressor", _name, "text-classification", _LABELS, _ASK)
    USAGES[_family, "multi_label"] = CardUsage("classifier", _name, "text-classification", _LABELS, _ASK)
    USAGES[_family, "tag"] = CardUsage(
        "tagger", _name, "token-classification", "AutoModelForTokenClassification", _ASK
    )
    USAGES[_family, "embed"] = CardUsage("embedder", _name, "sentence-similarity", "AutoModel", _ASK)
USAGES["encoder", "answer"] = CardUsage(
    "answerer of questions",
    "An encoder",
    "question-answering",
    "AutoModelForQuestionAnswering",
    "parakit predict FOLDER --input FILE",
)


def stage_card(name: str, stage_name: str, figures: Mapping[str, Any]) -> str:
    """The card of a model that a stage made outside a build, from the figures of its training."""
    return model_card(
        BuildSummary.model_validate({"name": name, "stages": {stage_name: figures}}), stage_name
    )


def model_card(summary: BuildSummary, stage_name: str) -> str:
    """The card of the model that a stage ("pretrain" or "finetune") made. Raises `UserError` where the summary has no
    such stage.
    """
    figures = summary.training(stage_name)
    if figures is None or not stage(summary, stage_name):
        ran = [name for name in summary.stages if stage(summary, name)]
        raise UserError(
            f"the summary has no figures of the stage {stage_name!r}",
            f"stages that ran: {', '.join(ran) or 'none'}",
        )
    usage = _usage(figures, stage_name)
    sections = [
        _front_matter(usage),
        _head(summary, usage, figures),
        _measured(summary, ROLE_OF_STAGE.get(stage_name, stage_name), figures),
        before_after_section(figures),
        _quantization_section(figures),
        _use(usage),
        _text(summary),
        _making(summary, figures),
        _limits(stage_name, figures),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def before_after_section(figures: TrainingSummary) -> str:
    """Whether the run helped, what it cost, and a table of answers; empty where nothing was compared."""
    found = figures.before_after
    if found is None:
        return ""
    lines = [f"- {escape_markdown(part[0].upper() + part[1:])}." for part in effect(figures)]
    lines += [f"- Not measured: {escape_markdown(reason)}." for reason in found.skipped]
    if found.answers:
        cells = [(pair.prompt, pair.before, pair.after) for pair in found.answers]
        lines += ["", "| prompt | before | after |", "| --- | --- | --- |"]
        lines += [f"| {' | '.join(escape_markdown(shorten(cell)) for cell in row)} |" for row in cells]
    return "## Before and after\n\n" + "\n".join(lines) if lines else ""


def _quantization_section(figures: TrainingSummary) -> str:
    """What quantization cost; empty for other models."""
    if not figures.quantization:
        return ""
    lines = ["## Quantization", "", "| | original | quantized |", "| --- | ---: | ---: |"]
    lines += [
        f"| {' | '.join(map(escape_markdown, row))} |" for row in quantization_rows(figures.quantization)
    ]
    notes = [f"- {escape_markdown(note)}" for note in quantization_notes(figures.quantization)]
    return "\n".join([*lines, "", *notes])


def escape_markdown(text: object) -> str:
    """Text that neither HTML nor a Markdown table can take for anything else, on one line."""
    plain = " ".join(html.escape(str(text), quote=False).split())
    for letter in "\\`*_[]|":
        plain = plain.replace(letter, "\\" + letter)
    return plain


def _front_matter(usage: CardUsage) -> str:
    tags = ["parakit", *(["conversational"] if usage is USAGES["decoder", "chat"] else [])]
    return f"---\nlibrary_name: transformers\npipeline_tag: {usage.pipeline}\ntags: {json.dumps(tags)}\n---"


def _usage(figures: TrainingSummary, stage_name: str) -> CardUsage:
    task = figures.task or ("chat" if stage_name == "finetune" else None)
    return USAGES.get((figures.family, task), USAGES["decoder", None])


def _head(summary: BuildSummary, usage: CardUsage, figures: TrainingSummary) -> str:
    lines = [f"# {escape_markdown(summary.name)} ({usage.role})"]
    count = f"{usage.what} of {number(figures.parameters)} parameters"
    plan = shape(figures.config or figures.plan)
    lines.append(
        count
        + (f": {escape_markdown(plan)}." if plan else ".")
        + f" Made by Parakit {escape_markdown(summary.version or parakit_version())}."
    )
    return "\n\n".join(lines)


def _measured(summary: BuildSummary, role: str, figures: TrainingSummary) -> str:
    lines = []
    if figures.bits_per_byte is not None:
        lines.append(
            f"- Bits per byte of {measured_text(figures)}, end tokens not counted: "
            f"**{number(figures.bits_per_byte, 4)}** (perplexity {number(figures.perplexity)} per token)."
        )
    elif figures.loss is not None:
        lines.append(f"- Held-out loss: **{number(figures.loss, 4)}** {escape_markdown(figures.loss_unit)}.")
    lines += [f"- {escape_markdown(part[0].upper() + part[1:])}." for part in outcome(figures)]
    lines += [f"- {text[0].upper()}{text[1:]}." for text in (forgetting(figures), merging(figures)) if text]
    for metric in figures.measured.figures if figures.measured else ():
        between = f" ({interval(metric)})" if interval(metric) else ""
        lines.append(f"- {escape_markdown(metric_name(metric))}: **{metric_value(metric)}**{between}.")
    for entry in summary.evaluations:
        if entry.model in (role, "pretrain" if role == "base" else "finetune"):
            lines.append(
                f"- {escape_markdown(entry.name)}: {number(entry.bits_per_byte, 4)} bits per byte of the text alone, "
                f"{byte_size(entry.bytes)}."
            )
    if role in (means := suite_means(summary)):
        lines.append(f"- Held-out suites, mean: **{percent(means[role])}**.")
    return "## Measured\n\n" + "\n".join(lines) if lines else ""


def _use(usage: CardUsage) -> str:
    python = [
        f"from transformers import {usage.auto}, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {usage.auto}.from_pretrained("FOLDER")',
    ]
    return "\n".join(["## Use", "", "```", usage.command, "```", "", "```python", *python, "```"])


def _text(summary: BuildSummary) -> str:
    corpus = stage(summary, "corpus")
    if not isinstance(corpus, CorpusSummary):
        return ""
    counts = [
        f"{number(corpus.documents)} documents",
        byte_size(corpus.bytes),
        f"{number(corpus.duplicates)} duplicates dropped",
        f"{number(corpus.bad_bytes)} bad bytes replaced",
        f"{len(corpus.skipped)} files left out",
    ]
    return f"## Training text\n\n{', '.join(counts)}."


def _making(summary: BuildSummary, figures: TrainingSummary) -> str:
    lines = [f"- Training: {escape_markdown(plan)}."] if (plan := run_plan(figures)) else []
    if figures.tokens is not None:
        lines.append(
            f"- Tokens seen: {compact(figures.tokens)}, at {compact(figures.tokens_per_second)} per second."
        )
    if cut := figures.long_rows.get("train"):
        lines.append(
            f"- Rows of over {number(cut['limit'])} tokens: {number(cut['too_long'])} of {number(cut['rows'])};"
            f" {number(cut['answers_cut'])} answers were cut, {number(cut['left_out'])} rows left out."
        )
    if figures.seconds is not None:
        predicted = figures.predicted_seconds
        line = f"- Time: {long_duration(figures.seconds)}" + (
            "" if predicted is None else f" (predicted {long_duration(predicted)})"
        )
        whole = summary.seconds
        lines.append(line + ("." if whole is None else f"; the whole build took {long_duration(whole)}."))
    lines += [f"- {escape_markdown(line)}." for line in against_plan(figures)]
    lines.append(f"- Machine: {escape_markdown(machine(summary.hardware or describe_hardware()))}.")
    lines += [
        f"- {escape_markdown(humanize(entry.stage))}: `{entry.digest[:16]}`"
        for entry in summary.lineage
        if entry.digest.isalnum()
    ]
    return "## How it was made\n\n" + "\n".join(lines)


def against_plan(figures: TrainingSummary) -> list[str]:
    """What came out and what the run took, each next to what was predicted."""
    lines = []
    if figures.loss is not None and (law := figures.predicted_loss):
        inside = "" if law.low <= figures.loss <= law.high else "; the measured one is outside the interval"
        lines.append(
            f"Loss: {figures.loss:.3f} {figures.loss_unit} (predicted {law.value:.3f}, {law.low:.3f} to {law.high:.3f}, by"
            f" {law.law}{inside})"
        )
    if figures.training_seconds and figures.steps:
        predicted = figures.predicted_step_seconds
        step = figures.training_seconds / figures.steps
        lines.append(
            f"Time of a step: {number(step)} s" + (f" (predicted {number(predicted)} s)" if predicted else "")
        )
    if figures.peak_memory_bytes:
        predicted_bytes = figures.predicted_peak_bytes
        line = f"Peak memory: {byte_size(figures.peak_memory_bytes)}"
        lines.append(line + (f" (predicted {byte_size(predicted_bytes)})" if predicted_bytes else ""))
    return lines


def _limits(stage_name: str, figures: TrainingSummary) -> str:
    text = "It knows only its training text, and may make up what it does not know. "
    text += "It was evaluated as described above and for no other use."
    if stage_name == "pretrain" and figures.family == "decoder":
        text += " It continues text and was not tuned to answer or to refuse."
    if figures.warnings:
        text += "\n\nWarnings of reward overoptimization during training:\n\n"
        text += "\n".join(
            f"- step {number(warning.step)}: {escape_markdown(warning.message)}"
            for warning in figures.warnings
        )
    return f"## Limits\n\n{text}"
