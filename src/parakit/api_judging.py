"""`parakit.judge`: a model compares or grades the answers of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parakit.common.devices import pick_device
from parakit.common.files import JsonObject
from parakit.evaluation.judging.config import JudgeConfig
from parakit.recipe.build_folder import model_location
from parakit.stages.judging import JudgeJob, judge_models


def judge(
    judge: str | Path,
    *,
    out: str | Path,
    models: Sequence[str | Path] = (),
    prompts: str | Path | None = None,
    answers: Sequence[str | Path] = (),
    votes: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    **settings: Any,
) -> JsonObject:
    """Let `judge` compare or grade answers and write the folder `out`; returns ratings or grades, the judge's position bias
    and, with `votes`, its agreement with people.

    `judge` and `models` are folders, or URLs of chat endpoints. `models` answer the file `prompts`; or `answers` are files of
    finished ones, one a model. `settings` are the fields of `JudgeConfig`: kind (pairwise, graded), criterion, limit, ... A
    call that was interrupted, as by an endpoint that fails, resumes when it is repeated. Raises `UserError` for input that
    does not fit together, and for a judge that mostly gives no verdict.
    """
    job = JudgeJob(
        judge=model_location(judge),
        config=JudgeConfig.parse(settings, "judge"),
        models=tuple(model_location(model) for model in models),
        prompts=None if prompts is None else str(prompts),
        answers=tuple(map(str, answers)),
        votes=None if votes is None else str(votes),
        device=str(pick_device(device)),
    )
    return judge_models(job, Path(out), overwrite)
