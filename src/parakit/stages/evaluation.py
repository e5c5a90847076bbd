"""The evaluation stage: the finished models on the suites, on texts and on examples that none of them was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit import primer
from parakit.checkpoints.loading import load_model
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import OnProgress
from parakit.data.corpus import iter_corpus
from parakit.data.examples import load_examples_report
from parakit.evaluation.comparison.folders import scores_of, suite_result
from parakit.evaluation.comparison.losses import loss_difference
from parakit.evaluation.comparison.pipeline import compare_with_parents, compare_with_start
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.contamination.evaluations import contamination_by_model, texts_to_search
from parakit.evaluation.evaluate import evaluate_task
from parakit.evaluation.perplexity import LossResult, evaluate_loss, evaluate_text
from parakit.evaluation.results import RESULTS, BenchmarkResult, read_benchmarks
from parakit.evaluation.samples import answers, continuations, openings, text_samples
from parakit.evaluation.suites import SuiteAnswer, SuiteResult, run_suites
from parakit.evaluation.tasks import run_tasks
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    SequenceToSequence,
    TransformerModel,
)
from parakit.stages.data_config import EvaluateConfig, chosen_limit
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
) -> JsonObject:
    """Evaluate `models`, in the order of the pipeline: each was made from the one before. One named `start` is the
    published model that the build began with: it answers and continues as the others do.

    `suites.<suite>.<model>` with accuracy, interval and answers; `benchmarks.<name>.<model>`; `against_parent.<model>` and,
    by suite, `suites_against_start`: the differences; `evaluations`, a row for each text and model, those of `held_out` too.
    `held_out_of_start` holds the same texts as the start's tokenizer encodes them, where it is another one;
    `samples.<model>`, its continuations of `prompts` or answers to `questions`; `task` and `task_of_start`, the figures
    of the tuned model and of the start, if it has the head, on the held-out part of `examples`. `evaluated`: the gate's
    evaluation folder of each model, whose answers are taken.
    """
    samples: dict[str, list[JsonObject]] = {}
    suites: dict[str, JsonObject] = {}
    suite_results: dict[str, dict[str, SuiteResult]] = {}
    losses: dict[str, dict[str, LossResult]] = {}
    tasks: dict[str, JsonObject] = {}
    benchmarks: dict[str, dict[str, BenchmarkResult]] = {}
    for name, path in models.items():
        model, tokenizer = load_model(path)
        assert tokenizer is not None, "a model that a build made has its tokenizer"
        chat = is_chat_tuned(path)
        samples[name] = _samples(model, tokenizer, chat, prompts, questions, both="start" in models)
        if isinstance(model, LanguageModel):
            folder = (evaluated or {}).get(name)
            answered = (
                _evaluated(folder) if folder else _answer(config, model, tokenizer, path, chat, advance)
            )
            suite_results[name], benchmarks[name] = answered
            for suite, result in suite_results[name].items():
                suites.setdefault(suite, {})[name] = _with_sample_answers(dataclasses.asdict(result))
            losses[name] = _text_losses(config, model, tokenizer, advance)
            sets = (held_out_of_start if name == "start" else None) or held_out or {}
            losses[name] |= _held_out_losses(sets, model, advance, in_bytes=bool(held_out_of_start))
        if examples is not None and (name == "tuned" or (name == "start" and _has_head_for(model, examples))):
            tasks[name] = _task_metrics(config, model, tokenizer, examples, advance)
    _add_contamination(config, models, suite_results, suites)
    return {
        "suites": suites,
        "suite_mean": {name: _mean(suites, name) for name in models} if suites else {},
        "chance": dict(primer.CHANCE) if suites else {},
        "benchmarks": _by_benchmark(benchmarks),
        **_compare(suite_results, benchmarks),
        "evaluations": _loss_rows(losses),
        "samples": samples,
        "task": tasks.get("tuned"),
        "task_of_start": tasks.get("start"),
    }


def _add_contamination(
    config: EvaluateConfig,
    models: Mapping[str, Path],
    results: Mapping[str, Mapping[str, SuiteResult]],
    suites: Mapping[str, JsonObject],
) -> None:
    """Search what each model was trained on for the items of its suites; the figures go into `suites`."""
    texts = {name: texts_to_search(models[name], config.contamination) for name in results if results[name]}
    searched = {name: found for name, found in texts.items() if found is not None}
    answered = {
        name: {
            suite: suite_result(suite, [vars(sample) for sample in one.samples], one.prompting)
            for suite, one in results[name].items()
        }
        for name in searched
    }
    for name, by_suite in contamination_by_model(answered, searched).items():
        for suite, figures in by_suite.items():
            suites[suite][name]["contamination"] = figures


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


def _with_sample_answers(result: JsonObject) -> JsonObject:
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
    return result | {"samples": shown}


def _answer(
    config: EvaluateConfig,
    model: LanguageModel,
    tokenizer: Tokenizer,
    path: Path,
    chat: bool,
    advance: OnProgress,
) -> tuple[dict[str, SuiteResult], dict[str, BenchmarkResult]]:
    """The suites and the tasks of the config."""
    items = primer.generate_suites(config.suites) if config.suites else {}
    suites = run_suites(
        model, tokenizer, items, chat=chat, max_new_tokens=config.max_new_tokens, advance=advance
    )
    # a limit of the suites' short answers is none of the tasks', unless it was chosen
    limit = chosen_limit(config)
    tasks = (
        run_tasks(model, tokenizer, path, config, chat=chat, max_new_tokens=limit, advance=advance)
        if config.tasks
        else {}
    )
    return suites, tasks


def _evaluated(folder: Path) -> tuple[dict[str, SuiteResult], dict[str, BenchmarkResult]]:
    """The suites and the tasks of an evaluation folder, with every answer."""
    results = read_json(folder / RESULTS)
    suites = {
        name: SuiteResult(**{**one, "samples": tuple(SuiteAnswer(**answer) for answer in one["samples"])})
        for name, one in results["suites"].items()
    }
    return suites, read_benchmarks(folder, results)


def _by_benchmark(results: Mapping[str, Mapping[str, BenchmarkResult]]) -> dict[str, JsonObject]:
    """Each benchmark's main score by model, with its interval."""
    found: dict[str, JsonObject] = {}
    for model, benchmarks in results.items():
        for name, one in benchmarks.items():
            figures = dataclasses.asdict(one.scores[one.main]) | {"metric": one.main}
            found.setdefault(name, {})[model] = figures | {"n_truncated": one.n_truncated}
    return found


def _compare(
    suites: Mapping[str, Mapping[str, SuiteResult]],
    benchmarks: Mapping[str, Mapping[str, BenchmarkResult]],
) -> JsonObject:
    """Every model against the one before it, and against the start."""
    scores = {
        model: scores_of(
            model,
            {"suites": {name: dataclasses.asdict(one) for name, one in suites[model].items()}},
            {},
            benchmarks[model],
        )
        for model in suites
        if suites[model] or benchmarks[model]
    }
    against_parent = compare_with_parents(scores)
    start = scores.pop("start", None)
    return {
        "against_parent": against_parent,
        "suites_against_start": compare_with_start(start, scores) if start else {},
    }


def _mean(suites: Mapping[str, Mapping[str, Any]], model: str) -> float:
    return sum(results[model]["accuracy"] for results in suites.values()) / len(suites)
