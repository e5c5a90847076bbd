"""The Python API. `import parakit` imports this module, and torch, on first use; the commands call the same functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from parakit.common.artifacts import open_artifact
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import OnProgress
from parakit.common.settings import Config
from parakit.evaluation.config import EvaluationConfig
from parakit.evaluation.evaluate import RESULTS, check_output, evaluate_model, summary, write_evaluation
from parakit.evaluation.preferences import evaluate_preferences, read_rankings
from parakit.evaluation.suites import compare_suites
from parakit.inference.capabilities import require_capability
from parakit.inference.folder_settings import warn_prefix_lm
from parakit.inference.loaded_model import Model
from parakit.model.heads import RewardModel
from parakit.recipe.build_folder import resolve_model_folder

Settings = TypeVar("Settings", bound=Config)


def load(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[str | Path] = (),
) -> Model:
    """Load a model: the folder of a build (its last model), a model folder of Parakit's or a published one, or an
    adapter's folder (on its base).

    `device`: auto, cpu, cuda, cuda:1, mps; `dtype`: auto (bfloat16 on a GPU, else float32), float32, bfloat16, float16,
    float64. `adapters`: folders of further adapters; the first is switched on. Raises `UserError` for a folder that holds
    no model, or whose files are damaged.
    """
    return Model.load(resolve_model_folder(path), device=device, dtype=dtype, adapters=adapters)


def evaluate(
    model: str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    compare: str | Path | None = None,
    preferences: str | Path | None = None,
    preferences_split: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> JsonObject:
    """Measure a model folder, or a build's last model; returns the figures.

    `settings` are the fields of `EvaluationConfig`: text=(FILE, ...), tokens=FOLDER, examples=FOLDER or FILE,
    suites={"n_suite_items": 250}, ... `out`: a folder to write with every answer; `compare`: the evaluation folder of
    another model, whose suites are compared item by item. `preferences`: a file or folder that measures a reward model,
    and nothing else. `on_progress` is called with the number of finished tokens, questions or rankings. Raises
    `UserError` for settings that measure nothing, and for a model that cannot be measured so.
    """
    folder = resolve_model_folder(model)
    if preferences is not None:
        others = {**settings, "out": out, "compare": compare}
        if given := [name for name, value in others.items() if value]:
            raise UserError(f"{given[0]} does not go with preferences", "remove one of them")
        return {"preferences": _evaluate_rewards(folder, preferences, preferences_split, device, on_progress)}
    config = EvaluationConfig.parse(settings, "evaluate")
    check_output(out, overwrite=overwrite)
    warn_prefix_lm(folder)
    other = read_json(open_artifact(compare, "evaluation").path / RESULTS) if compare else None
    if other is not None and not (other["suites"] and config.suites):
        lacking = "this evaluation runs" if other["suites"] else f"{compare} has"
        raise UserError(
            f"compare = {compare} has no effect: suites are compared, and {lacking} none",
            "run the suites in both evaluations (--suites)",
        )
    results = evaluate_model(folder, config, device=str(pick_device(device)), advance=on_progress)
    if out:
        write_evaluation(out, results, config, overwrite=overwrite)
    differences = compare_suites(other["suites"], results["suites"]) if other else {}
    compared = {name: vars(value) for name, value in differences.items()}
    return summary(results) | {"examples": results["examples"], "compared": compared}  # with its few samples


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
