"""`parakit.compare`: two or more models on everything that they were both evaluated on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parakit.api_evaluation import evaluate
from parakit.common.artifacts import has_kind
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress, log
from parakit.common.settings import config_digest
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.folders import read_scores
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelComparison, overall_verdict
from parakit.evaluation.config import EvaluationConfig
from parakit.recipe.build_folder import resolve_model_folder
from parakit.reports.comparison_page import write_comparison_page
from parakit.stages.run_dir import folder_fingerprint


def compare(
    reference: str | Path,
    *models: str | Path,
    out: str | Path | None = None,
    page: str | Path | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    on_total: OnProgress | None = None,
    **settings: Any,
) -> JsonObject:
    """Compare `models` with `reference` by paired tests on the same items; returns the verdicts with every figure.

    Each is an evaluation folder (`parakit.evaluate(..., out=FOLDER)`), or a model's or build's folder, which is evaluated
    first. `settings` are the fields of `CompareConfig`, and for models those of `EvaluationConfig`: what to evaluate on.
    `out`: a folder for the evaluations of models, in which finished ones are found again; `page`: an HTML file to write.
    Raises `UserError` where two scores have other protocols or items, and where nothing is shared.
    """
    if not models:
        raise UserError(
            f"a comparison needs two folders, and only {reference} is named",
            "name a model to compare with it",
        )
    of_comparison = {key: value for key, value in settings.items() if key in CompareConfig.model_fields}
    config = CompareConfig.parse(of_comparison, "compare")
    of_models = {key: value for key, value in settings.items() if key not in of_comparison}
    paths = [Path(path) for path in (reference, *models)]
    _check_settings(paths, of_models, out)
    with contextlib.ExitStack() as stack:
        place = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: JsonObject = {"device": device, "on_progress": on_progress, "on_total": on_total}
        folders = [_evaluated(path, place, of_models, running) for path in paths]
        scores = [read_scores(folder, name=str(path)) for path, folder in zip(paths, folders, strict=True)]
    found = compare_models(scores[0], scores[1:], config)
    if page is not None:
        write_comparison_page(found, config, page)
    return _report(found, config)


def _check_settings(paths: Sequence[Path], settings: JsonObject, out: str | Path | None) -> None:
    """`UserError` for a missing folder, and for settings of an evaluation where nothing is evaluated."""
    if missing := [path for path in paths if not path.is_dir()]:
        raise UserError(
            f"{missing[0]}: no such folder", "name evaluation folders, or folders of models or builds"
        )
    given = [*settings, *(["out"] if out else [])]
    if given and all(has_kind(path, "evaluation") for path in paths):
        raise UserError(
            f"{given[0]} has no effect: every folder is an evaluation, and nothing is evaluated",
            "remove it, or name the models",
        )


def _evaluated(path: Path, place: Path, settings: JsonObject, running: JsonObject) -> Path:
    """The evaluation of `path`: itself, one in `place` that was finished before, or a new one there."""
    if has_kind(path, "evaluation"):
        return path
    model = resolve_model_folder(path)
    config = EvaluationConfig.parse(settings, "evaluate")
    facts = {"evaluation": config.model_dump(mode="json"), "model": folder_fingerprint(model)}
    folder = place / f"{model.resolve().name}-{config_digest(facts)[:12]}"
    if has_kind(folder, "evaluation"):
        log(f"{path}: was evaluated before, in {folder}")
    else:
        evaluate(model, out=folder, **running, **settings)
    return folder


def _report(found: Sequence[ModelComparison], config: CompareConfig) -> JsonObject:
    return {
        "reference": found[0].reference,
        "verdict": overall_verdict([one.verdict for one in found]),
        **config.model_dump(mode="json"),
        "models": [one.without_items() | {"n_changed": len(one.changed)} for one in found],
    }
