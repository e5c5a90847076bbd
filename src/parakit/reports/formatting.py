"""Figures in words: how the report and the model card write counts, shares and times, and the sentences that
tell a build in brief.

Plain strings only; whoever puts them into a page escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

Summary = Mapping[str, Any]
# Models in the order of a life, each named after what made it.
ROLES = {
    "base": "before tuning",
    "tuned": "after tuning",
    "constitution": "after the constitution",
    "best_of_n": "after best-of-n",
    "dpo": "after DPO",
    "ppo": "after PPO",
    "grpo": "after GRPO",
    "distill": "distilled",
}
ROLE_OF_STAGE = {"pretrain": "base", "finetune": "tuned"}


def number(value: Any, digits: int = 3) -> str:
    """12345 as `12,345`; fractions to `digits` significant digits; an en dash for what was not measured."""
    if not is_number(value):
        return "–"
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def compact(value: Any) -> str:
    """4,982,016 as `4.98 M`."""
    if not is_number(value):
        return "–"
    for limit, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:#.3g}".rstrip(".") + suffix
    return number(value)


def size(n_bytes: Any) -> str:
    """Bytes in decimal units: 9_800_000 as `9.80 MB`."""
    if not is_number(n_bytes):
        return "–"
    return compact(n_bytes).replace(" k", " kB").replace(" M", " MB").replace(" G", " GB").replace(
        " T", " TB"
    ) + (" bytes" if abs(n_bytes) < 999.5 else "")


def percent(value: Any) -> str:
    """0.8741 as `87.4 %`."""
    return f"{100 * value:.1f} %" if is_number(value) else "–"


def seconds(value: Any) -> str:
    """402 as `6 min 42 s`."""
    if not is_number(value):
        return "–"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def is_number(value: Any) -> TypeGuard[float]:
    """True for a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def words(name: str) -> str:
    """`subject_verb` as `subject verb`."""
    return name.replace("_", " ")


def blank(text: str) -> str:
    """Nothing in the place of the dash, for tables in which most cells have no figure."""
    return "" if text == "–" else text


def model_name(name: Any) -> str:
    """What a reader calls the model of a stage or role."""
    return {"base": "base", "pretrain": "base", "tuned": "tuned", "finetune": "tuned"}.get(
        str(name), str(name)
    )


def forgetting(figures: Mapping[str, Any]) -> str:
    """How the loss on earlier data changed while a model went on: a sentence's middle, or nothing."""
    if not is_number(figures.get("forgetting")):
        return ""
    before, after = figures["before"]["earlier_loss"], figures["earlier_loss"]
    share = percent(figures.get("replay_share"))
    return (
        f"loss on earlier data {number(before, 4)} before and {number(after, 4)} after, a forgetting of"
        f" {figures['forgetting']:+.3f} nats per token with {share} of the rows replayed"
    )


def stage(summary: Summary, name: str) -> Mapping[str, Any]:
    """A stage's figures; empty where it did not run."""
    return (summary.get("stages") or {}).get(name) or {}


def model_stages(summary: Summary) -> dict[str, str]:
    """The stages that made a model which speaks or does its task, by the model's role, in the order of its life."""
    made = summary.get("models") or {"base": "pretrain", "tuned": "finetune"}
    return {role: name for role, name in made.items() if stage(summary, name)}


def final_stage(summary: Summary) -> str:
    """The last stage that made a model."""
    return next(reversed(model_stages(summary).values()), "pretrain")


def roles(summary: Summary) -> list[str]:
    """Models that the suites were run on, in the order of a life."""
    found = {role for results in (summary.get("suites") or {}).values() for role in results}
    known = [*(summary.get("models") or {}), *ROLES]
    return [role for role in dict.fromkeys(known) if role in found] + sorted(found - set(known))


def suite_means(summary: Summary) -> dict[str, float]:
    """Mean accuracy over the suites for each model, as the summary has it or else computed."""
    given, means = summary.get("suite_mean") or {}, {}
    for role in roles(summary):
        scores = [results[role]["accuracy"] for results in summary["suites"].values() if role in results]
        means[role] = given.get(role, sum(scores) / len(scores))
    return means


def machine(hardware: Mapping[str, Any] | None) -> str:
    """The machine in a few words."""
    hardware = hardware or {}
    parts = [str(hardware[key]) for key in ("accelerator", "processor") if hardware.get(key)]
    text = " with ".join(parts[:1]) or "this machine"
    cores = hardware.get("cores")
    if cores and not hardware.get("accelerator"):
        text += f", {cores} core{'s' if cores != 1 else ''}"
    return text


FAMILIES = {
    "decoder": "A language model",
    "encoder": "An encoder",
    "encoder-decoder": "An encoder-decoder",
}


def family(summary: Summary) -> str:
    """The family that the recipe names."""
    return str((summary.get("recipe") or {}).get("family") or "decoder")


def task(summary: Summary) -> str | None:
    """What the model was tuned for; None for one that was only pre-trained."""
    named = (summary.get("task") or {}).get("task") or (summary.get("recipe") or {}).get("task")
    return str(named) if named else "chat" if stage(summary, "finetune") else None


def next_command(summary: Summary) -> dict[str, str]:
    """What a reader does with the model: `what` in words, and the `command`."""
    made, place = family(summary), home(summary)
    if task(summary) == "chat":
        return {"what": "Talk to it", "command": f"parakit chat {place}"}
    if task(summary) is None and made == "decoder":
        return {"what": "Let it write", "command": f'parakit generate {place} "It was"'}
    if task(summary) is None and made == "encoder-decoder":
        return {"what": "Tune it", "command": f"parakit finetune {place} --task translate --examples FILE"}
    asked = {"translate": "A sentence to translate.", None: "A text with a [MASK] in it."}
    text = asked.get(task(summary), "A text.")
    return {"what": "Use it", "command": f'parakit predict {place} --text "{text}"'}


def origin(summary: Summary) -> str:
    """What was made, of what, in which time: one sentence."""
    corpus, made = (
        stage(summary, "corpus"),
        stage(summary, final_stage(summary)) or stage(summary, "pretrain"),
    )
    text = FAMILIES.get(family(summary), "A model")
    if is_number(made.get("parameters")):
        text += f" of {compact(made['parameters'])} parameters"
    if is_number(corpus.get("documents")):
        text += f", made from {number(corpus['documents'])} documents"
        if is_number(corpus.get("bytes")):
            text += f" ({size(corpus['bytes'])} of text)"
    if is_number(summary.get("seconds")):
        text += f" in {seconds(summary['seconds'])}"
    return text + f" on {machine(summary.get('hardware'))}."


def quality(summary: Summary) -> str:
    """How good it is: one or two sentences, empty when nothing was measured."""
    means, asked = suite_means(summary), roles(summary)
    if asked:
        best = asked[-1]
        n = len([results for results in summary["suites"].values() if best in results])
        text = f"On {n} suites of held-out questions it answers {percent(means[best])} right on average"
        if best != "base" and "base" in means:
            return text + f"; before tuning, {percent(means['base'])}."
        return text + "."
    bits = stage(summary, "pretrain").get("bits_per_byte")
    return (
        f"It needs {number(bits)} bits for a byte of text that it has never seen." if is_number(bits) else ""
    )


def shape(plan: Mapping[str, Any] | None) -> str:
    """An architecture in a line: layers, widths, heads, context."""
    plan = plan or {}
    parts = []
    if "n_layers" in plan and "d_model" in plan:
        parts.append(f"{plan['n_layers']} layers of width {plan['d_model']}")
    if "n_heads" in plan:
        shared = plan.get("n_kv_heads", plan["n_heads"])
        parts.append(
            f"{plan['n_heads']} heads"
            + (f" sharing {shared} key-value heads" if shared != plan["n_heads"] else "")
        )
    for key, text in (
        ("d_ff", "feed-forward {}"),
        ("vocab_size", "{} tokens in the vocabulary"),
        ("max_seq_len", "context of {} tokens"),
    ):
        if key in plan:
            parts.append(text.format(number(plan[key])))
    return ", ".join(parts)


def home(summary: Summary) -> str:
    """The build's folder, as one would name it in a command."""
    return str(summary.get("path") or f"builds/{summary.get('name', 'model')}")
