"""The README.md of a model folder: what the model is, how good it is, what it was made from, how to use it.

Markdown with the front matter that model hubs read. Text from outside (names, samples) is escaped: a card may
be shown by software that renders HTML.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.hardware import describe_hardware, parakit_version
from parakit.reports.alignment import outcome
from parakit.reports.formatting import (
    ROLE_OF_STAGE,
    Summary,
    compact,
    forgetting,
    is_number,
    machine,
    number,
    percent,
    seconds,
    shape,
    size,
    stage,
    suite_means,
    words,
)
from parakit.reports.tasks import figure, figure_name, interval


@dataclass(frozen=True)
class Kind:
    """What a model is called, and how it is used."""

    role: str
    what: str
    pipeline: str  # as model hubs name it
    auto: str  # transformers' class
    command: str


_ASK = 'parakit predict FOLDER --text "..."'
_LABELS = "AutoModelForSequenceClassification"
# By family and task; None: pre-trained only.
KINDS: dict[tuple[str, Any], Kind] = {
    ("decoder", None): Kind(
        "base model",
        "A decoder language model",
        "text-generation",
        "AutoModelForCausalLM",
        "parakit generate FOLDER",
    ),
    ("decoder", "chat"): Kind(
        "instruction-tuned model",
        "A decoder language model",
        "text-generation",
        "AutoModelForCausalLM",
        "parakit chat FOLDER",
    ),
    ("decoder", "reward"): Kind(
        "reward model",
        "A decoder that judges answers",
        "text-classification",
        _LABELS,
        "parakit evaluate FOLDER --preferences FILE",
    ),
    ("encoder", None): Kind(
        "base model",
        "An encoder that fills masked tokens",
        "fill-mask",
        "AutoModelForMaskedLM",
        'parakit predict FOLDER --text "... [MASK] ..."',
    ),
    ("encoder-decoder", None): Kind(
        "base model",
        "An encoder-decoder",
        "text2text-generation",
        "AutoModelForSeq2SeqLM",
        "parakit finetune FOLDER --task translate --examples FILE --output OTHER",
    ),
    ("encoder-decoder", "translate"): Kind(
        "translator", "An encoder-decoder", "translation", "AutoModelForSeq2SeqLM", _ASK
    ),
}
for _family, _name in (("encoder", "An encoder"), ("decoder", "A decoder")):
    KINDS[_family, "classify"] = Kind("classifier", _name, "text-classification", _LABELS, _ASK)
    KINDS[_family, "regress"] = Kind("scorer of texts", _name, "text-classification", _LABELS, _ASK)
    KINDS[_family, "tag"] = Kind(
        "tagger of words", _name, "token-classification", "AutoModelForTokenClassification", _ASK
    )
    KINDS[_family, "embed"] = Kind("embedder", _name, "sentence-similarity", "AutoModel", _ASK)


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
    role = ROLE_OF_STAGE.get(stage_name, stage_name)
    sections = [
        _front_matter(_kind(figures, stage_name)),
        _head(summary, stage_name, figures),
        _measured(summary, role, figures),
    ]
    sections += [
        _use(_kind(figures, stage_name)),
        _text(summary),
        _making(summary, figures),
        _limits(stage_name, figures),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def escaped(text: Any) -> str:
    """Text that neither HTML nor a Markdown table can take for anything else, on one line."""
    plain = " ".join(html.escape(str(text), quote=False).split())
    for letter in "\\`*_[]|":
        plain = plain.replace(letter, "\\" + letter)
    return plain


def _front_matter(kind: Kind) -> str:
    tags = ["parakit", *(["conversational"] if kind is KINDS["decoder", "chat"] else [])]
    return f"---\nlibrary_name: transformers\npipeline_tag: {kind.pipeline}\ntags: {json.dumps(tags)}\n---"


def _kind(figures: Mapping[str, Any], stage_name: str) -> Kind:
    task = figures.get("task") or ("chat" if stage_name == "finetune" else None)
    return KINDS.get((str(figures.get("family") or "decoder"), task), KINDS["decoder", None])


def _head(summary: Summary, stage_name: str, figures: Any) -> str:
    kind = _kind(figures, stage_name)
    lines = [f"# {escaped(summary.get('name', 'model'))} ({kind.role})"]
    count = f"{kind.what} of {number(figures.get('parameters'))} parameters"
    plan = shape(figures.get("config") or figures.get("plan"))
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
    elif is_number(figures.get("loss")):
        unit = escaped(figures.get("loss_unit") or "nats per token")
        lines.append(f"- Loss on what was held out: **{number(figures['loss'], 4)}** {unit}.")
    lines += [f"- {escaped(part[0].upper() + part[1:])}." for part in outcome(figures)]
    if told := forgetting(figures):
        lines.append(f"- {told[0].upper()}{told[1:]}.")
    for row in (figures.get("measured") or {}).get("figures") or []:
        between = f" ({interval(row)})" if interval(row) else ""
        lines.append(f"- {escaped(figure_name(row))}: **{figure(row)}**{between}.")
    for entry in summary.get("evaluations") or []:
        if entry.get("model") in (role, "pretrain" if role == "base" else "finetune"):
            lines.append(
                f"- {escaped(entry.get('name'))}: {number(entry.get('bits_per_byte'), 4)} bits per byte on "
                f"{size(entry.get('bytes'))}."
            )
    if rows:
        mean = suite_means(summary).get(role)
        lines += [f"- Held-out suites, mean: **{percent(mean)}**.", ""]
        lines += [
            "| suite | right | 95 % interval | guessing | questions |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    return "## Measured\n\n" + "\n".join(lines) if lines else ""


def _use(kind: Kind) -> str:
    python = [
        f"from transformers import {kind.auto}, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {kind.auto}.from_pretrained("FOLDER")',
    ]
    return "\n".join(["## Use", "", "```", kind.command, "```", "", "```python", *python, "```"])


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
    lines.append(f"- Machine: {escaped(machine(summary.get('hardware') or describe_hardware()))}.")
    for entry in summary.get("lineage") or []:
        if str(entry.get("digest", "")).isalnum():
            lines.append(f"- {escaped(words(str(entry.get('stage'))))}: `{entry['digest'][:16]}`")
    return "## How it was made\n\n" + "\n".join(lines)


def _limits(stage_name: str, figures: Mapping[str, Any]) -> str:
    text = "It knows what its training text says, and makes up what it does not know. "
    text += "It was measured as told above and not checked for any other use."
    if stage_name == "pretrain" and (figures.get("family") or "decoder") == "decoder":
        text += " It continues text and was not tuned to answer or to refuse."
    if warnings := figures.get("warnings"):
        text += "\n\nWarnings of reward overoptimization during training:\n\n"
        text += "\n".join(f"- step {number(row['step'])}: {escaped(row['message'])}" for row in warnings)
    return f"## Limits\n\n{text}"
