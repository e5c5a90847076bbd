"""`parakit.evaluate`: measure a model, or search the items of an evaluation in texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parakit.common.artifacts import has_kind, require_new_output
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress
from parakit.evaluation.comparison.folders import read_scores, scores_of
from parakit.evaluation.comparison.losses import compare_losses, seed_spread, verdict
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.contamination.evaluations import (
    add_contamination,
    search_evaluation,
    texts_to_search,
)
from parakit.evaluation.evaluate import (
    evaluate_model,
    summary,
    without_samples,
    write_evaluation,
)
from parakit.evaluation.preferences import evaluate_preferences, read_rankings
from parakit.inference.capabilities import require_capability
from parakit.inference.folder_settings import warn_prefix_lm
from parakit.inference.loaded_model import Model
from parakit.model.heads import RewardModel
from parakit.recipe.build_folder import resolve_model_folder
from parakit.reports.cards.score_card import score_rows, scored_card


def evaluate(
    model: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    compare: str | Path | Sequence[str | Path] | None = None,
    preferences: str | Path | None = None,
    preferences_split: str | None = None,
    contamination: Sequence[str] = (),
    device: str = "auto",
    on_progress: OnProgress | None = None,
    on_total: OnProgress | None = None,
    **settings: Any,
) -> JsonObject:
    """Measure a model folder, or a build's last model; returns the figures.

    `settings` are the fields of `EvaluationConfig`: tasks=(NAME, ...), data=FOLDER, text=(FILE, ...), tokens=FOLDER,
    examples=FOLDER or FILE, suites={"n_suite_items": 250}, ... `out`: a folder to write with every answer; `compare`: the
    evaluation folder of another model, with which this one is compared as `parakit.compare` does: `comparison`, and by name
    `compared` and `compared_loss`. With several folders, of runs that differ by their seed, the first is compared and all show
    the noise of seeds. `contamination`: texts that are searched for the items of tasks and suites, files, folders and
    artifacts; by default `lineage`, what the model was trained on; `none`: no search. With an evaluation folder as `model`
    its items are searched and nothing is measured. `preferences`: a file or folder that measures a reward model, and nothing
    else. `on_progress` is called with the number of finished tokens, questions or rankings, `on_total` with how many are to
    come, where that is known. Raises `UserError` for settings that measure nothing, and for a model that cannot be measured
    so.
    """
    folder = resolve_model_folder(model)
    if has_kind(folder, "evaluation"):
        others = {"compare": compare, "preferences": preferences, **settings}
        return _search_again(folder, contamination, out, overwrite, others)
    if preferences is not None:
        others = {**settings, "out": out, "compare": compare, "contamination": contamination}
        if given := [name for name, value in others.items() if value]:
            raise UserError(f"{given[0]} does not go with preferences", "remove one of them")
        return {"preferences": _evaluate_rewards(folder, preferences, preferences_split, device, on_progress)}
    config = EvaluationConfig.parse(settings, "evaluate")
    require_new_output(out, overwrite=overwrite)
    warn_prefix_lm(folder)
    earlier = _evaluations(compare)
    if earlier and not _comparable(earlier[0], config):
        raise UserError(
            f"compare = {compare} has no effect: the two evaluations share none of their tasks, suites and texts",
            "run the same --tasks, --suites, --text or --tokens in both evaluations",
        )
    texts = texts_to_search(folder, contamination) if config.tasks or config.suites else None
    results = evaluate_model(
        folder, config, device=str(pick_device(device)), advance=on_progress, on_total=on_total
    )
    results = add_contamination(results, texts) if texts else results
    if out:
        card = scored_card(folder, score_rows(summary(results)))
        write_evaluation(out, results, config, overwrite=overwrite, card=card)
    measured = scores_of(str(model), results, config.model_dump(mode="json"), results["benchmarks"])
    compared = _compared(earlier, measured) if earlier else {}
    return (
        summary(results) | {"examples": results["examples"]} | _NOT_COMPARED | compared
    )  # with its few samples


_NOT_COMPARED: JsonObject = {"comparison": None, "compared": {}, "compared_loss": {}}


def _search_again(
    folder: Path, texts: Sequence[str], out: str | Path | None, overwrite: bool, others: JsonObject
) -> JsonObject:
    """The results of an evaluation folder with contamination, without samples and items."""
    if given := [name for name, value in others.items() if value]:
        raise UserError(
            f"{given[0]} does not go with the evaluation folder {folder}, which is only searched",
            "remove it, or name the model",
        )
    require_new_output(out, overwrite=overwrite)
    found = search_evaluation(
        folder,
        texts,
        out,
        overwrite=overwrite,
        make_card=lambda results: scored_card(Path(results["model"]["path"]), score_rows(results)),
    )
    suites = without_samples(found.get("suites") or {})
    return {"loss": {}, "examples": None, "benchmarks": {}, **found, "suites": suites} | _NOT_COMPARED


def _evaluations(folders: str | Path | Sequence[str | Path] | None) -> list[ModelScores]:
    """The scores in evaluation folders."""
    paths = [folders] if isinstance(folders, str | Path) else list(folders or ())
    return [read_scores(path) for path in paths]


def _comparable(other: ModelScores, config: EvaluationConfig) -> bool:
    texts = {"text": bool(config.text), config.split: config.tokens is not None}
    shared = (other.suites and config.suites) or (other.benchmarks and config.tasks)
    return bool(shared) or any(texts.get(name) for name in other.loss)


def _compared(others: Sequence[ModelScores], scores: ModelScores) -> JsonObject:
    """The differences to the first of `others`; those of losses with the noise of seeds, which all of them show."""
    (found,) = compare_models(others[0], [scores])
    compared = {
        row.name: dataclasses.asdict(row) for row in found.scores if row.verdict and row.kind != "loss"
    }
    losses = {}
    for name, difference in compare_losses(others[0].loss, scores.loss).items():
        spread = seed_spread([one.loss[name][difference.metric] for one in others if name in one.loss])
        losses[name] = vars(difference) | {
            "above_noise": difference.above_noise,
            "seeds": None if spread is None else vars(spread),
            "verdict": verdict(difference, spread, scores.loss[name][difference.metric]),
        }
    return {"comparison": found.without_items(), "compared": compared, "compared_loss": losses}


def _evaluate_rewards(
    folder: Path,
    preferences: str | Path,
    split: str | None,
    device: str,
    on_progress: OnProgress | None,
) -> JsonObject:
    rankings = list(read_rankings(str(preferences), split))
    model = Model.load(folder, device=device)
    require_capability(model.network, "reward")
    assert isinstance(model.network, RewardModel)
    return evaluate_preferences(model.network, model.tokenizer, rankings, on_progress)
