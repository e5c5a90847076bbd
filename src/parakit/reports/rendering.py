"""The report of a build: one self-contained HTML page made from one `summary` mapping.

The page needs no network and runs no script (its own security policy forbids both). Every text in it, from a
model, a file name or a recipe, passes through the template's autoescape; nothing is marked as safe. A section
whose figures are missing does not appear. Left out: anything interactive, which is the studio's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from parakit.common.files import write_text_atomic
from parakit.reports import charts
from parakit.reports.alignment import outcome
from parakit.reports.formatting import (
    ROLES,
    Summary,
    blank,
    compact,
    final_stage,
    forgetting,
    is_number,
    model_name,
    model_stages,
    next_command,
    number,
    origin,
    percent,
    quality,
    roles,
    seconds,
    shape,
    size,
    stage,
    suite_means,
    task,
    words,
)
from parakit.reports.stage_comparison import steps, trained_stages
from parakit.reports.tasks import figure, figure_name, interval, main_figure, task_section

PAGE = Path(__file__).with_name("page")
MAX_SKIPPED, MAX_ANSWERS = 12, 8
TITLES = {
    "suites": "What it knows",
    "stages": "What each stage brought",
    "task": "How well it does its task",
    "text-quality": "How well it predicts text",
    "training": "How it learned",
    "samples": "What it says",
    "tokens": "Its tokens",
    "corpus": "The text it was made from",
    "time": "Where the time went",
    "lineage": "Where it comes from",
    "settings": "Settings",
}
STAGE_TITLES = {
    "pretrain": "Pre-training",
    "reward": "A reward model, from what people prefer",
    "constitution": "Tuning on answers revised under a constitution",
    "best_of_n": "Tuning on the best of several answers",
    "dpo": "Direct preference optimization",
    "ppo": "Proximal policy optimization",
    "grpo": "Group-relative policy optimization",
    "distill": "Distillation",
}
KINDS = {
    "byte_bpe": "byte-level BPE",
    "wordpiece": "WordPiece",
    "unigram": "Unigram",
    "char": "characters",
    "word": "words",
}


def write_report(summary: Summary, path: str | Path) -> Path:
    """Write the report of a build to `path`, whole or not at all. Missing parts of `summary` are left out of
    the page.
    """
    path = Path(path)
    write_text_atomic(path, render_report(summary))
    return path


def render_report(summary: Summary) -> str:
    """The report as HTML text."""
    return page_template("report.html").render(_page(summary))


def page_template(name: str) -> Template:
    """A page's template, with autoescape and the house's ways of writing figures."""
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    for write in (blank, compact, model_name, number, percent, seconds, size, words):
        environment.filters[write.__name__] = write
    return environment.get_template(name)


def _page(summary: Summary) -> dict[str, Any]:
    """Everything that the template shows."""
    page: dict[str, Any] = {
        "s": {"name": "model", "created": "", "version": "", "suites": {}, "stages": {}, **summary},
        "origin": origin(summary),
        "quality": quality(summary),
        "next": next_command(summary),
        "tiles": _tiles(summary),
        "titles": TITLES,
        "roles": roles(summary),
        "models": {role: ROLES.get(role, words(role)) for role in roles(summary)},
        "means": suite_means(summary),
        "suite_rows": charts.suite_rows(summary),
        "answers": _answers(summary),
        "steps": steps(summary),
        "task": task_section(summary),
        "evaluations": summary.get("evaluations") or [],
        "trained": [t for t in (_trained(summary, name) for name in trained_stages(summary)) if t],
        "samples": _samples(summary),
        "tokenizer": _tokenizer(stage(summary, "tokenizer")),
        "corpus": _corpus(stage(summary, "corpus")),
        "times": charts.time_slices(summary),
        "drawing": charts.lineage_drawing(summary.get("lineage") or []),
        "box": charts.BOX,
        "settings": _settings(summary),
    }
    shown = {
        "suites": page["suite_rows"],
        "stages": page["steps"],
        "task": page["task"],
        "text-quality": page["evaluations"],
        "training": page["trained"],
        "samples": page["samples"],
        "tokens": page["tokenizer"],
        "corpus": page["corpus"],
        "time": page["times"],
        "lineage": page["drawing"],
        "settings": True,
    }
    titles = TITLES | ({"task": page["task"]["title"]} if page["task"] else {})
    return page | {"contents": [(key, titles[key]) for key, there in shown.items() if there]}


def _tiles(summary: Summary) -> list[dict[str, str]]:
    """The few figures that a reader wants first."""
    tiles = []
    main = main_figure(summary)
    if main:
        between = interval(main)
        note = f"95 % between {between}" if between else "on held-out examples"
        title = figure_name(main)
        tiles.append({"name": title[0].upper() + title[1:], "value": figure(main), "note": note})
    means = suite_means(summary)
    if means:
        best = roles(summary)[-1]
        note = (
            f"{percent(means['base'])} before tuning"
            if best != "base" and "base" in means
            else "mean over the suites"
        )
        tiles.append({"name": "Right answers", "value": percent(means[best]), "note": note})
        scored = {name: r[best]["accuracy"] for name, r in summary["suites"].items() if best in r}
        weakest = min(scored, key=lambda name: scored[name])
        tiles.append({"name": "Weakest suite", "value": percent(scored[weakest]), "note": words(weakest)})
    pretrain = stage(summary, "pretrain")
    if is_number(pretrain.get("bits_per_byte")):
        perplexity = pretrain.get("perplexity")
        note = f"perplexity {number(perplexity)} per token" if is_number(perplexity) else "held-out text"
        tiles.append({"name": "Bits per byte", "value": number(pretrain["bits_per_byte"]), "note": note})
    last = final_stage(summary)
    made = stage(summary, last)
    if is_number(made.get("parameters")):
        tokens, larger = (pretrain or made).get("tokens"), pretrain.get("parameters")
        note = f"trained on {compact(tokens)} tokens" if is_number(tokens) else ""
        note = f"distilled from {compact(larger)}" if last == "distill" and is_number(larger) else note
        tiles.append({"name": "Parameters", "value": compact(made["parameters"]), "note": note})
    if is_number(summary.get("seconds")):
        hardware = summary.get("hardware") or {}
        note = str(
            hardware.get("accelerator")
            or (f"{hardware['cores']} processor cores" if hardware.get("cores") else "")
        )
        tiles.append({"name": "Time, all stages", "value": seconds(summary["seconds"]), "note": note})
    return tiles


def _answers(summary: Summary) -> list[tuple[str, list[dict[str, Any]]]]:
    """Per suite: each question once, with what every model said to it."""
    found = []
    for suite, results in (summary.get("suites") or {}).items():
        turns: dict[str, dict[str, Any]] = {}
        for role in roles(summary):
            for sample in results.get(role, {}).get("samples") or []:
                turn = turns.setdefault(
                    str(sample.get("prompt", "")),
                    {"prompt": sample.get("prompt", ""), "answer": sample.get("answer", ""), "said": []},
                )
                turn["said"].append((role, sample.get("completion", ""), bool(sample.get("correct"))))
        if turns:
            found.append((words(str(suite)), list(turns.values())[:MAX_ANSWERS]))
    return found


def _trained(summary: Summary, name: str) -> dict[str, Any] | None:
    """One training stage: a line of figures and its plots."""
    figures = stage(summary, name)
    if not figures:
        return None
    same = name != "pretrain" and figures.get("plan") == stage(summary, "pretrain").get("plan")
    parts = ["" if same else shape(figures.get("plan"))]
    if is_number(figures.get("tokens")):
        parts.append(f"{compact(figures['tokens'])} tokens in {seconds(figures.get('seconds'))}")
    if is_number(figures.get("tokens_per_second")):
        parts.append(f"{compact(figures['tokens_per_second'])} tokens per second")
    if is_number(figures.get("share_of_peak")):
        parts.append(f"{percent(figures['share_of_peak'])} of the machine's measured peak")
    if is_number(figures.get("loss")):
        unit = figures.get("loss_unit") or charts.LOSS_UNIT
        parts.append(f"validation loss {number(figures['loss'])} {unit}")
    parts += outcome(figures)
    parts.append(forgetting(figures))
    return {
        "title": _stage_title(summary, name),
        "line": "; ".join(part for part in parts if part),
        "plots": charts.training_plots(figures),
    }


def _samples(summary: Summary) -> list[tuple[str, list[dict[str, str]]]]:
    found = []
    for name in model_stages(summary).values():
        title = _stage_title(summary, name)
        rows = [
            {
                "prompt": str(row.get("prompt", "")),
                "gap": "" if name == "pretrain" else "\n",
                "completion": str(row.get("completion", "")),
            }
            for row in stage(summary, name).get("samples") or []
        ]
        if rows:
            found.append((f"After {title[0].lower()}{title[1:]}", rows))
    return found


def _stage_title(summary: Summary, name: str) -> str:
    if name in STAGE_TITLES:
        return STAGE_TITLES[name]
    if name != "finetune":
        return words(name).capitalize()
    if task(summary) == "chat":
        return "Fine-tuning on conversations"
    return "Fine-tuning on examples" if stage(summary, "pretrain") else "Training on examples"


def _tokenizer(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    if not figures:
        return None
    kind = str(figures.get("kind", "–"))
    facts = [
        ("kind", KINDS.get(kind, words(kind))),
        ("vocabulary", f"{number(figures.get('vocab_size'))} tokens"),
        ("bytes per token", number(figures.get("bytes_per_token"))),
        ("tokens per word", number(figures.get("tokens_per_word"))),
    ]
    samples = [
        [str(piece).replace("\n", "↵\n") for piece in pieces] for pieces in figures.get("samples") or []
    ]
    return {"facts": [fact for fact in facts if not fact[1].startswith("–")], "samples": samples}


def _corpus(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    if not figures:
        return None
    labels = {
        "documents": "documents",
        "files": "files",
        "duplicates": "duplicates dropped",
        "bad_bytes": "bad bytes replaced",
    }
    facts = [("size", size(figures["bytes"]))] if is_number(figures.get("bytes")) else []
    facts += [(label, number(figures[key])) for key, label in labels.items() if is_number(figures.get(key))]
    splits = {
        name: figures[f"{name}_documents"]
        for name in ("train", "validation", "test")
        if is_number(figures.get(f"{name}_documents"))
    }
    if list(splits) == ["train"] and is_number(figures.get("documents")):
        splits["held out"] = figures["documents"] - splits["train"]
    skipped = [_skipped(entry) for entry in figures.get("skipped") or []]
    return {
        "facts": facts,
        "splits": charts.slices(splits, number) if len(splits) > 1 else [],
        "skipped": skipped[:MAX_SKIPPED],
        "more": max(len(skipped) - MAX_SKIPPED, 0),
    }


def _skipped(entry: Any) -> tuple[str, str]:
    """A skipped file and why: from a mapping, a pair, or a line such as `logo.png: binary`."""
    if isinstance(entry, Mapping):
        return str(entry.get("source") or entry.get("path") or ""), str(entry.get("reason", ""))
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return str(entry[0]), str(entry[1])
    name, _, reason = str(entry).partition(": ")
    return name, reason


def _settings(summary: Summary) -> list[tuple[str, str]]:
    groups = [
        ("Recipe, with every default", summary.get("recipe")),
        ("Machine and versions", {**(summary.get("hardware") or {}), **(summary.get("versions") or {})}),
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
