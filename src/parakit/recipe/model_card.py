"""The README.md of a model folder: what the model is, how good it is, what it was made from, how to use it.

Markdown with the front matter that model hubs read. Text from outside (names, samples) is escaped: a card may
be shown by software that renders HTML.
"""

from __future__ import annotations

import html
import json
from typing import Any

from parakit.common.errors import UserError
from parakit.common.hardware import describe_hardware, parakit_version
from parakit.recipe import report_figures
from parakit.recipe.report_figures import (
    Summary,
    compact,
    is_number,
    number,
    percent,
    seconds,
    shape,
    size,
    stage,
    words,
)


def model_card(summary: Summary, stage_name: str) -> str:
    """The card of the model that a stage ("pretrain" or "finetune") made. Raises `UserError` when the summary
    knows no such stage.
    """
    figures = stage(summary, stage_name)
    if not figures:
        ran = [name for name, found in (summary.get("stages") or {}).items() if found]
        raise UserError(
            f"the summary has no figures of the stage {stage_name!r}",
            f"stages that ran: {', '.join(ran) or 'none'}",
        )
    role = report_figures.ROLE_OF_STAGE.get(stage_name, stage_name)
    sections = [
        _front_matter(stage_name),
        _head(summary, stage_name, figures),
        _measured(summary, role, figures),
    ]
    sections += [_use(stage_name), _text(summary), _making(summary, figures), _limits(stage_name)]
    return "\n\n".join(section for section in sections if section) + "\n"


def escaped(text: Any) -> str:
    """Text that neither HTML nor a Markdown table can take for anything else, on one line."""
    plain = " ".join(html.escape(str(text), quote=False).split())
    for letter in "\\`*_[]|":
        plain = plain.replace(letter, "\\" + letter)
    return plain


def _front_matter(stage_name: str) -> str:
    tags = ["parakit", "conversational"] if stage_name == "finetune" else ["parakit"]
    return f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: {json.dumps(tags)}\n---"


def _head(summary: Summary, stage_name: str, figures: Any) -> str:
    kind = "instruction-tuned model" if stage_name == "finetune" else "base model"
    lines = [f"# {escaped(summary.get('name', 'model'))} ({kind})"]
    count = f"A decoder language model of {number(figures.get('parameters'))} parameters"
    plan = shape(figures.get("plan"))
    lines.append(
        count
        + (f": {escaped(plan)}." if plan else ".")
        + f" Made by Parakit {escaped(summary.get('version') or parakit_version())}."
    )
    return "\n\n".join(lines)


def _measured(summary: Summary, role: str, figures: Any) -> str:
    rows = []
    for suite, results in (summary.get("suites") or {}).items():
        if role in results:
            result, chance = results[role], (summary.get("chance") or {}).get(suite)
            between = f"{percent(result.get('low'))} to {percent(result.get('high'))}"
            rows.append(
                f"| {escaped(words(suite))} | {percent(result['accuracy'])} | {between} | {percent(chance)} "
                f"| {number(result.get('n'))} |"
            )
    lines = []
    if is_number(figures.get("bits_per_byte")):
        lines.append(
            f"- Bits per byte on held-out text: **{number(figures['bits_per_byte'], 4)}** (perplexity "
            f"{number(figures.get('perplexity'))} per token)."
        )
    for entry in summary.get("evaluations") or []:
        if entry.get("model") in (role, "pretrain" if role == "base" else "finetune"):
            lines.append(
                f"- {escaped(entry.get('name'))}: {number(entry.get('bits_per_byte'), 4)} bits per byte on "
                f"{size(entry.get('bytes'))}."
            )
    if rows:
        mean = report_figures.suite_means(summary).get(role)
        lines += [f"- Held-out suites, mean: **{percent(mean)}**.", ""]
        lines += [
            "| suite | right | 95 % interval | guessing | questions |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    return "## Measured\n\n" + "\n".join(lines) if lines else ""


def _use(stage_name: str) -> str:
    verb = "chat" if stage_name == "finetune" else "generate"
    python = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
    ]
    return "\n".join(["## Use", "", "```", f"parakit {verb} FOLDER", "```", "", "```python", *python, "```"])


def _text(summary: Summary) -> str:
    corpus = stage(summary, "corpus")
    if not corpus:
        return ""
    counts = [
        f"{number(corpus.get('documents'))} documents",
        f"{size(corpus.get('bytes'))}",
        f"{number(corpus.get('duplicates', 0))} duplicates dropped",
        f"{number(corpus.get('bad_bytes', 0))} bad bytes replaced",
        f"{len(corpus.get('skipped') or [])} files left out",
    ]
    return f"## Training text\n\n{', '.join(counts)}."


def _making(summary: Summary, figures: Any) -> str:
    lines = []
    if is_number(figures.get("tokens")):
        lines.append(
            f"- Tokens seen: {compact(figures['tokens'])}, at {compact(figures.get('tokens_per_second'))} "
            f"per second."
        )
    if is_number(figures.get("seconds")):
        predicted = figures.get("predicted_seconds")
        line = f"- Time: {seconds(figures['seconds'])}" + (
            f" (predicted {seconds(predicted)})" if is_number(predicted) else ""
        )
        whole = summary.get("seconds")
        lines.append(line + (f"; the whole build took {seconds(whole)}." if is_number(whole) else "."))
    lines.append(
        f"- Machine: {escaped(report_figures.machine(summary.get('hardware') or describe_hardware()))}."
    )
    for entry in summary.get("lineage") or []:
        if str(entry.get("digest", "")).isalnum():
            lines.append(f"- {escaped(words(str(entry.get('stage'))))}: `{entry['digest'][:16]}`")
    return "## How it was made\n\n" + "\n".join(lines)


def _limits(stage_name: str) -> str:
    text = "It knows what its training text says, and makes up what it does not know. "
    text += "It was measured as told above and not checked for any other use."
    if stage_name == "pretrain":
        text += " It continues text and was not tuned to answer or to refuse."
    return f"## Limits\n\n{text}"
