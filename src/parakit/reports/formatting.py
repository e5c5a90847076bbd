"""Names and summary sentences for the report and the model card.

Plain strings only; templates and cards escape them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import MISSING, byte_size, compact, long_duration, number, percent
from parakit.reports.summary_parts import Sample, StageSummary
from parakit.reports.summary_schema import (
    BuildSummary,
    CorpusSummary,
    StartSummary,
    TokenizerSummary,
    TrainingSummary,
    VocabularySummary,
)
from parakit.training.plan import TrainingPlan

# Models in pipeline order, each named after the stage that made it.
ROLES = {
    "start": "published model",
    "base": "before tuning",
    "tuned": "after tuning",
    "constitution": "after the constitution",
    "best_of_n": "after best-of-n",
    "dpo": "after DPO",
    "ppo": "after PPO",
    "grpo": "after GRPO",
    "distill": "distilled",
    "quantize": "quantized",
}
ROLE_OF_STAGE = {"pretrain": "base", "finetune": "tuned"}
_DEFAULT_MODELS = {"base": "pretrain", "tuned": "finetune"}
FAMILIES = {
    "decoder": "A language model",
    "encoder": "An encoder",
    "encoder-decoder": "An encoder-decoder",
}
STAGE_TITLES = {
    "start": "The published model",
    "vocabulary": "Larger vocabulary",
    "pretrain": "Pre-training",
    "reward": "Reward modelling",
    "constitution": "Constitutional training",
    "best_of_n": "Best-of-n fine-tuning",
    "dpo": "Direct preference optimization",
    "ppo": "Proximal policy optimization",
    "grpo": "Group-relative policy optimization",
    "distill": "Distillation",
    "quantize": "Quantization",
}
TOKENIZER_KINDS = {
    "byte_bpe": "byte-level BPE",
    "wordpiece": "WordPiece",
    "unigram": "Unigram",
    "char": "characters",
    "word": "words",
}


def humanize(name: str) -> str:
    """`subject_verb` as `subject verb`."""
    return name.replace("_", " ")


def hide_missing(text: str) -> str:
    """An empty string for the dash, for tables in which most cells have no value."""
    return "" if text == MISSING else text


def model_name(name: str) -> str:
    """The name of the model of a stage or role."""
    return {"pretrain": "base", "finetune": "tuned"}.get(name, name)


def merging(figures: TrainingSummary) -> str:
    """What merging the adapter changed; empty where none was merged."""
    if figures.merge is None:
        return ""
    found = figures.merge.logit_difference
    return f"adapter merged: {logit_difference(found.largest, found.n_prompts)}"


def logit_difference(largest: float, n_prompts: int) -> str:
    """What a merge did to logits, in words."""
    return f"logits differ by {largest:.2g} at most from those of base and adapter, on {n_prompts} prompts"


def forgetting(figures: TrainingSummary) -> str:
    """How the loss on earlier data changed in continued training: a sentence's middle, or nothing."""
    if figures.forgetting is None:
        return ""
    before, after = figures.before.get("earlier_loss"), figures.earlier_loss
    return (
        f"loss on earlier data {number(before, 4)} before and {number(after, 4)} after, a forgetting of"
        f" {figures.forgetting:+.3f} nats per token with {percent(figures.replay_share)} of the rows replayed"
    )


def vocabulary_facts(figures: VocabularySummary) -> list[tuple[str, str]]:
    """A larger vocabulary in figures: name and value."""
    facts = [
        ("new tokens", number(figures.new_tokens)),
        ("vocabulary", f"{number(figures.vocab_size)} tokens"),
    ]
    for split, before, after in (
        ("training", figures.tokens_per_word_before, figures.tokens_per_word_after),
        ("held-out", figures.held_out_tokens_per_word_before, figures.held_out_tokens_per_word_after),
    ):
        if before is not None and after is not None:
            facts.append(
                (f"tokens per word, {split} text", f"{number(before)} before, {number(after)} after")
            )
    return facts


def larger_vocabulary(summary: BuildSummary) -> JsonObject | None:
    """The report's section on a tokenizer that was extended; None for any other."""
    figures = stage(summary, "vocabulary")
    if not isinstance(figures, VocabularySummary):
        return None
    return {"facts": vocabulary_facts(figures), "samples": [figures.tokens]}


def tokenizer_section(summary: BuildSummary) -> JsonObject | None:
    """The report's section on the build's own tokenizer; None where there is none."""
    figures = stage(summary, "tokenizer")
    if not isinstance(figures, TokenizerSummary):
        return None
    kind = figures.kind or ""
    facts = [("kind", TOKENIZER_KINDS.get(kind, humanize(kind)))] if kind else []
    facts += [("vocabulary", f"{number(figures.vocab_size)} tokens")] if figures.vocab_size else []
    facts += [
        (name, number(value))
        for name, value in (
            ("bytes per token", figures.bytes_per_token),
            ("tokens per word", figures.tokens_per_word),
        )
        if value is not None
    ]
    samples = [[piece.replace("\n", "↵\n") for piece in pieces] for pieces in figures.samples]
    return {"facts": facts, "samples": samples}


def samples_of(summary: BuildSummary, name: str) -> tuple[Sample, ...]:
    """What the model of a stage wrote after the build's prompts."""
    figures = summary.stages.get(name)
    if isinstance(figures, StartSummary):
        return figures.samples
    return tuple(sample for sample in training(summary, name).samples if isinstance(sample, Sample))


def stage(summary: BuildSummary, name: str) -> StageSummary | None:
    """A stage's summary; None where it did not run."""
    figures = summary.stages.get(name)
    return figures if figures and figures.model_fields_set else None


def training(summary: BuildSummary, name: str) -> TrainingSummary:
    """The summary of a stage that trains; an empty one where it did not run."""
    return summary.training(name) or TrainingSummary.model_validate({})


def model_stages(summary: BuildSummary) -> dict[str, str]:
    """The stages that made a model, by the model's role, in pipeline order."""
    models = summary.models or _DEFAULT_MODELS
    return {role: name for role, name in models.items() if stage(summary, name)}


def final_stage(summary: BuildSummary) -> str:
    """The last stage that made a model."""
    return next(reversed(model_stages(summary).values()), "pretrain")


def roles(summary: BuildSummary) -> list[str]:
    """Models that the suites were run on, in pipeline order."""
    measured = {role for results in summary.suites.values() for role in results}
    known = [*summary.models, *ROLES]
    return [role for role in dict.fromkeys(known) if role in measured] + sorted(measured - set(known))


def suite_means(summary: BuildSummary) -> dict[str, float]:
    """Mean accuracy over the suites for each model, from the summary or else computed."""
    means = {}
    for role in roles(summary):
        scores = [results[role].accuracy for results in summary.suites.values() if role in results]
        means[role] = summary.suite_mean.get(role, sum(scores) / len(scores))
    return means


def machine(hardware: Mapping[str, Any]) -> str:
    """The machine in a few words."""
    parts = [str(hardware[key]) for key in ("accelerator", "processor") if hardware.get(key)]
    text = " with ".join(parts[:1]) or "this machine"
    cores = hardware.get("cores")
    if cores and not hardware.get("accelerator"):
        text += f", {cores} core{'s' if cores != 1 else ''}"
    return text


def family(summary: BuildSummary) -> str:
    """The family that the recipe names."""
    return str(summary.recipe.get("family") or "decoder")


def task(summary: BuildSummary) -> str | None:
    """The task that the model was tuned for; None for one that was only pre-trained."""
    named = (summary.task and summary.task.task) or (summary.recipe.get("finetune") or {}).get("task")
    return str(named) if named else "chat" if stage(summary, "finetune") else None


def next_command(summary: BuildSummary) -> dict[str, str]:
    """How to use the model: `what` in words, and the `command`."""
    model_family, path = family(summary), build_path(summary)
    if "index" in summary.stages:
        return {"what": "Question it", "command": f'parakit ask {path} "..."'}
    if task(summary) == "chat":
        return {"what": "Chat with it", "command": f"parakit chat {path}"}
    if task(summary) is None and model_family == "decoder":
        return {"what": "Generate text", "command": f'parakit generate {path} "It was"'}
    if task(summary) is None and model_family == "encoder-decoder":
        return {
            "what": "Fine-tune it",
            "command": f"parakit finetune {path} --task translate --examples FILE",
        }
    inputs = {"translate": "A sentence to translate.", None: "A text with a [MASK] in it."}
    text = inputs.get(task(summary), "A text.")
    return {"what": "Predict", "command": f'parakit predict {path} --text "{text}"'}


def summary_sentence(summary: BuildSummary) -> str:
    """What was made, from what, in which time: one sentence."""
    final = training(summary, final_stage(summary))
    text = FAMILIES.get(family(summary), "A model")
    if final.parameters is not None:
        text += f" of {compact(final.parameters)} parameters"
    if source := published_name(summary):
        text += f", tuned from {source}"
    corpus = summary.stages.get("corpus")
    if isinstance(corpus, CorpusSummary) and corpus.documents is not None:
        text += f", {'with' if published_name(summary) else 'made from'} {number(corpus.documents)} documents"
        if corpus.bytes is not None:
            text += f" ({byte_size(corpus.bytes)} of text)"
    if summary.seconds is not None:
        text += f" in {long_duration(summary.seconds)}"
    return text + f" on {machine(summary.hardware)}."


def published_name(summary: BuildSummary) -> str | None:
    """The name of the published model that the build began with: its last folder, or its name on the hub."""
    start = summary.stages.get("start")
    if not isinstance(start, StartSummary) or not start.source:
        return None
    return start.source if start.source.startswith("hub:") else start.source.rstrip("/").rsplit("/", 1)[-1]


def quality(summary: BuildSummary) -> str:
    """How good it is: one or two sentences, empty when nothing was measured."""
    means, measured = suite_means(summary), roles(summary)
    if measured:
        best = measured[-1]
        n = len([results for results in summary.suites.values() if best in results])
        text = f"Mean accuracy on {n} suites of held-out questions: {percent(means[best])}"
        if best != "start" and "start" in means:
            return text + f"; the published model's, {percent(means['start'])}."
        if best != "base" and "base" in means:
            return text + f"; before tuning, {percent(means['base'])}."
        return text + "."
    bits = training(summary, "pretrain").bits_per_byte
    return (
        ""
        if bits is None
        else f"It reaches {number(bits)} bits per byte on held-out text, end tokens not counted."
    )


def measured_text(figures: TrainingSummary) -> str:
    """What a stage's bits per byte are of."""
    return "the held-out answers" if figures.task == "chat" else "held-out text"


def shape(plan: Mapping[str, Any]) -> str:
    """An architecture in a line: layers, widths, heads, context."""
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


def run_plan(figures: TrainingSummary) -> str:
    """How a model was trained, in a line: steps, batch, optimizer, learning rate, as the run took them."""
    if not TrainingPlan.model_fields.keys() >= figures.plan.keys() >= {"max_steps", "learning_rate"}:
        return ""
    return TrainingPlan.parse(figures.plan, "the plan of a run").describe("rows")


def build_path(summary: BuildSummary) -> str:
    """The build's folder, as a command names it."""
    return summary.path or f"builds/{summary.name}"
