"""The results of each model of a build on the recipe's suites, tasks and texts, and an evaluation folder for each of them.

They have the form of `evaluate_model`, so that what compares, searches or shows an evaluation takes those of a build too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from parakit import primer
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import OnProgress
from parakit.evaluation.comparison.folders import scores_of
from parakit.evaluation.comparison.pipeline import compare_with_parents, compare_with_start
from parakit.evaluation.contamination.evaluations import contamination_by_model, texts_to_search
from parakit.evaluation.evaluate import summary, write_evaluation
from parakit.evaluation.perplexity import LossResult
from parakit.evaluation.results import MODELS, RESULTS, read_benchmarks
from parakit.evaluation.suites import run_suites
from parakit.evaluation.tasks import run_tasks
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import LanguageModel
from parakit.reports.cards.score_card import score_rows, scored_card
from parakit.stages.comparison.gate import gate_evaluation
from parakit.stages.data_config import EvaluateConfig, chosen_limit
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def model_results(
    config: EvaluateConfig,
    model: LanguageModel,
    tokenizer: Tokenizer,
    path: Path,
    advance: OnProgress,
    *,
    texts: Mapping[str, LossResult],
    evaluated: Path | None,
) -> JsonObject:
    """The results of the model in the folder `path`, in the form that it was tuned for, with its losses on `texts`.
    `evaluated`: its gate's folder, whose answers are taken.
    """
    chat = is_chat_tuned(path)
    found: JsonObject = {
        "model": {"path": str(path), "chat_tuned": chat, "parameters": model.config.n_params()["total"]},
        "loss": {name: dataclasses.asdict(loss) for name, loss in texts.items()},
        "examples": None,
    }
    if evaluated is not None:
        results = read_json(evaluated / RESULTS)
        return found | {
            "suites": results["suites"],
            "benchmarks": read_benchmarks(evaluated, results),
        }
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
    return found | {
        "suites": {name: dataclasses.asdict(suite) for name, suite in suites.items()},
        "benchmarks": tasks,
    }


def with_contamination(config: EvaluateConfig, results: Mapping[str, JsonObject]) -> dict[str, JsonObject]:
    """The results by model, with how many items of suites and tasks are in the text that each model was trained on."""
    texts = {
        name: texts_to_search(found["model"]["path"], config.contamination)
        for name, found in results.items()
        if found["suites"] or found["benchmarks"]
    }
    return contamination_by_model(results, {name: one for name, one in texts.items() if one is not None})


def compare_stages(results: Mapping[str, JsonObject]) -> JsonObject:
    """Every model against the one before it, and against the start."""
    scores = {
        model: scores_of(model, {"suites": found["suites"]}, {}, found["benchmarks"])
        for model, found in results.items()
        if found["suites"] or found["benchmarks"]
    }
    against_parent = compare_with_parents(scores)
    start = scores.pop("start", None)
    against_start = compare_with_start(start, scores) if start else {"suites": {}, "benchmarks": {}}
    return {
        "against_parent": against_parent,
        **{f"{part}_against_start": found for part, found in against_start.items()},
    }


def write_evaluations(config: EvaluateConfig, results: Mapping[str, JsonObject], folder: Path) -> None:
    """An evaluation folder of each model inside `folder`, which is being made; of none without any score."""
    settings = gate_evaluation(config).replace(text=config.texts)
    for name, found in results.items():
        if found["suites"] or found["benchmarks"] or found["loss"]:
            card = scored_card(Path(found["model"]["path"]), score_rows(summary(found)))
            write_evaluation(folder / MODELS / name, found, settings, card=card)
