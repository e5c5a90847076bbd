"""The gate: a stage's model is evaluated, and a build stops before the next stage where it is worse than its parent.

The evaluation is written before it is judged, into the build's work folder, so a build that was stopped, or is resumed with
another limit, evaluates nothing twice. What passes becomes the gate's folder, an evaluation like any other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.files import disk_errors
from parakit.common.progress import log, progress
from parakit.evaluation.comparison.config import GATE
from parakit.evaluation.comparison.folders import read_scores
from parakit.evaluation.comparison.pipeline import check_gate
from parakit.evaluation.config import EvaluationConfig, TaskConfig
from parakit.evaluation.evaluate import evaluate_model, write_evaluation
from parakit.stages.data_config import EvaluateConfig, chosen_limit


def run_gate(config: EvaluateConfig, model: Path, parent: Path | None, out: Path, work: Path) -> None:
    """Evaluate `model` and write its evaluation to `out`; `QualityFall` where it is worse than `parent`, the evaluation of the
    model that it was made from.
    """
    assert config.gate is not None
    settings = gate_evaluation(config)
    measured = out if _is_evaluation_of(out, model, settings) else _evaluated(model, settings, out.name, work)
    if parent is not None:
        before = parent.name.removeprefix(GATE)
        found = check_gate(
            read_scores(parent, name=before), read_scores(measured, name=model.name), config.gate
        )
        log(f"gate: {model.name} against {before}: {found.verdict}")
    if measured != out:
        with disk_errors(out):
            if out.exists():
                shutil.rmtree(out)
            measured.rename(out)


def _evaluated(model: Path, settings: EvaluationConfig, name: str, work: Path) -> Path:
    """The evaluation of a model in the folder `work`, where an earlier run may have left it."""
    folder = work / name
    if not _is_evaluation_of(folder, model, settings):
        work.mkdir(exist_ok=True)
        with progress(f"evaluate {model.name}", unit="answers") as bar:
            results = evaluate_model(model, settings, advance=bar.advance)
        write_evaluation(folder, results, settings, overwrite=True)
    return folder


def _is_evaluation_of(folder: Path, model: Path, settings: EvaluationConfig) -> bool:
    if not (folder / LINEAGE).is_file():
        return False
    lineage = read_lineage(folder)
    digests = [parent["digest"] for parent in lineage["parents"]]
    return read_lineage(model)["digest"] in digests and lineage["config"] == settings.model_dump(mode="json")


def gate_evaluation(config: EvaluateConfig) -> EvaluationConfig:
    """What the models are evaluated on."""
    settings = {name: getattr(config, name) for name in TaskConfig.model_fields} | {"suites": config.suites}
    limit = chosen_limit(config) if config.tasks else config.max_new_tokens
    return EvaluationConfig.parse(settings | ({"max_new_tokens": limit} if limit else {}))
