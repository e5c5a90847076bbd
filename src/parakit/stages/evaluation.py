"""The evaluation stage: the finished models on the suites, on texts and on examples that none of them was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit import primer
from parakit.checkpoints.loading import load_model
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress
from parakit.data.corpus import iter_corpus
from parakit.data.examples import load_examples_report
from parakit.evaluation.comparison.losses import loss_difference
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.contamination.evaluations import without_further_items
from parakit.evaluation.evaluate import evaluate_task
from parakit.evaluation.perplexity import LossResult, evaluate_loss, evaluate_text
from parakit.evaluation.results import BenchmarkResult
from parakit.evaluation.samples import answers, continuations, openings, text_samples
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    SequenceToSequence,
    TransformerModel,
)
from parakit.stages.comparison.evaluations import (
    compare_stages,
    model_results,
    with_contamination,
    write_evaluations,
)
from parakit.stages.data_config import EvaluateConfig
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer

N_SAMPLE_ANSWERS = 12  # of each suite and model, for the report: half of them wrong, if there are as many


def measure(
    config: EvaluateConfig,
    models: Mapping[str, Path],
    advance: OnProgress,
    *,
    prompts: Sequence[str] = (),
    questions: Sequence[str] = (),
    examples: Path | None = None,
    held_out: Mapping[str, Path] | None = None,
    held_out_of_start: Mapping[str, Path] | None = None,
    evaluated: Mapping[str, Path] | None = None,
    out: Path | None = None,
) -> JsonObject:
    """Evaluate `models`, in the order of the pipeline: each was made from the one before. One named `start` is the
    published model that the build began with: it answers and continues as the others do.

    `suites.<suite>.<model>` with accuracy, interval and answers; `benchmarks.<name>.<model>` with its scores and protocol;
    `against_parent.<model>` and, by name, `suites_against_start` and `benchmarks_against_start`: the differences;
    `evaluations`, a row for each text and model, those of `held_out` too. `held_out_of_start` holds the same texts as the
    start's tokenizer encodes them, where it is another one; `samples.<model>`, its continuations of `prompts` or answers to
    `questions`; `task` and `task_of_start`, the figures of the tuned model and of the start, if it has the head, on the
    held-out part of `examples`. `evaluated`: the gate's evaluation folder of each model, whose answers are taken. `out`: a
    folder that is being made, where each model's own evaluation folder is written.
    """
    samples: dict[str, list[JsonObject]] = {}
    results: dict[str, JsonObject] = {}
    losses: dict[str, dict[str, LossResult]] = {}
    tasks: dict[str, JsonObject] = {}
    gates = evaluated or {}
    for name, path in models.items():
        model, tokenizer = load_model(path)
        assert tokenizer is not None, "a model that a build made has its tokenizer"
        chat = is_chat_tuned(path)
        samples[name] = _samples(model, tokenizer, chat, prompts, questions, both="start" in models)
        if isinstance(model, LanguageModel):
            losses[name] = _text_losses(config, model, tokenizer, advance)
            results[name] = model_results(
                config, model, tokenizer, path, advance, texts=losses[name], evaluated=gates.get(name)
            )
            sets = (held_out_of_start if name == "start" else None) or held_out or {}
            losses[name] |= _held_out_losses(sets, model, advance, in_bytes=bool(held_out_of_start))
        if examples is not None and (name == "tuned" or (name == "start" and _has_head_for(model, examples))):
            tasks[name] = _task_metrics(config, model, tokenizer, examples, advance)
    results = with_contamination(config, results)
    if out is not None:
        write_evaluations(config, results, out)
    suites = _by_name(results, "suites", _suite_figures)
    return {
        "suites": suites,
        "suite_mean": {name: _mean(suites, name) for name in models} if suites else {},
        "chance": dict(primer.CHANCE) if suites else {},
        "benchmarks": _by_name(results, "benchmarks", _benchmark_figures),
        **compare_stages(results),
        "evaluations": _loss_rows(losses),
        "samples": samples,
        "task": tasks.get("tuned"),
        "task_of_start": tasks.get("start"),
    }


def opening_prompts(corpus: Path) -> tuple[str, ...]:
    """Beginnings of documents that were held out."""
    return openings(iter_corpus(corpus, "validation"))


def _samples(
    model: TransformerModel,
    tokenizer: Tokenizer,
    chat: bool,
    prompts: Sequence[str],
    questions: Sequence[str],
    both: bool,
) -> list[JsonObject]:
    """Answers, continuations (of a chat model with `both` only) or filled masks; none for models that predict no tokens
    of a text.
    """
    if isinstance(model, LanguageModel) and both:
        answered = answers(model, tokenizer, questions) if chat else []
        return answered + continuations(model, tokenizer, prompts)
    if isinstance(model, LanguageModel) and chat:
        return answers(model, tokenizer, questions)
    return text_samples(model, tokenizer, prompts)


def _text_losses(
    config: EvaluateConfig, model: LanguageModel, tokenizer: Tokenizer, advance: OnProgress
) -> dict[str, LossResult]:
    return {
        Path(text).name: evaluate_text(model, tokenizer, (text,), advance=advance) for text in config.texts
    }


def _held_out_losses(
    held_out: Mapping[str, Path], model: LanguageModel, advance: OnProgress, in_bytes: bool
) -> dict[str, LossResult]:
    """The loss on validation splits that were encoded with the model's tokenizer. Of conversations only the answers
    count: there are bits per byte of their text only with `in_bytes`, where tokens are not the same in all models.
    """
    losses = {}
    for title, folder in held_out.items():
        shards = TokenShards.open(folder, "validation")
        if shards.n_counted:
            loss = evaluate_loss(model, shards, advance=advance)
            no_bytes = shards.loss_mask is not None and not in_bytes
            losses[title] = dataclasses.replace(loss, bits_per_byte=None) if no_bytes else loss
    return losses


def _loss_rows(losses: Mapping[str, Mapping[str, LossResult]]) -> list[JsonObject]:
    """A row for each model and text, with what differs from the start, or else from the model before."""
    rows = []
    before = None
    for model, found in losses.items():
        other = "start" if "start" in losses else before
        for text, loss in found.items():
            row = {"name": text, "model": model, "bytes": loss.n_bytes} | loss.figures()
            first = losses[other].get(text) if other not in (None, model) else None
            if first is not None:
                difference = loss_difference(vars(first), vars(loss))
                row["change"] = dataclasses.asdict(difference) | {"against": other}
            rows.append(row)
        before = model
    return rows


def _task_metrics(
    config: EvaluateConfig, model: TransformerModel, tokenizer: Tokenizer, examples: Path, advance: OnProgress
) -> JsonObject:
    settings = EvaluationConfig(
        examples=str(examples), max_new_tokens=config.max_new_tokens, n_beams=config.n_beams
    )
    return evaluate_task(model, tokenizer, settings, advance)


def _has_head_for(model: TransformerModel, examples: Path) -> bool:
    """Whether a model that is not tuned for the task of these examples has its head, with the same labels."""
    report = load_examples_report(str(examples))
    task, labels = report["task"], tuple(report["labels"])
    if isinstance(model, Classifier):
        classes = model.classes
        kind = "tag" if classes.level == "token" else "regress" if classes.regression else "classify"
        return task == kind and (classes.regression or classes.labels == labels)
    return isinstance(model, {"embed": Embedder, "translate": SequenceToSequence}.get(task, ()))


def _by_name(
    results: Mapping[str, JsonObject], part: str, figures: Callable[[Any], JsonObject]
) -> dict[str, JsonObject]:
    """Of the suites or benchmarks: the figures by name and model."""
    found: dict[str, JsonObject] = {}
    for model, one in results.items():
        for name, result in one[part].items():
            found.setdefault(name, {})[model] = figures(result)
    return found


def _benchmark_figures(result: BenchmarkResult) -> JsonObject:
    """The main score with its interval, all scores, and what they belong to; without items and groups."""
    found = result.without_items()
    main = found["scores"][result.main] | {"metric": result.main, "n_truncated": result.n_truncated}
    return main | {
        "scores": found["scores"],
        "protocol": found["protocol"],
        "contamination": without_further_items(result.contamination),
    }


def _suite_figures(result: JsonObject) -> JsonObject:
    """The figures with a few of the answers, under the keys of the report."""
    ordered = sorted(result["samples"], key=lambda sample: sample["correct"])
    n_wrong = sum(not sample["correct"] for sample in ordered)
    chosen = ordered[: min(n_wrong, N_SAMPLE_ANSWERS // 2)]
    chosen += ordered[n_wrong : n_wrong + N_SAMPLE_ANSWERS - len(chosen)]
    shown = [
        {
            "prompt": s["question"],
            "completion": s["completion"],
            "answer": s["answer"],
            "correct": s["correct"],
        }
        for s in chosen
    ]
    found = result | {"samples": shown}
    if "contamination" in result:
        found["contamination"] = without_further_items(result["contamination"])
    return found


def _mean(suites: Mapping[str, Mapping[str, Any]], model: str) -> float:
    return sum(results[model]["accuracy"] for results in suites.values()) / len(suites)
