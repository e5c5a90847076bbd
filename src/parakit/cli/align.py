"""`parakit align`: train a reward model or a policy on preferences, or a policy on rewards."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.alignment.config import AlignConfig, Method
from parakit.cli.rendering.arguments import parse_arguments
from parakit.cli.rendering.conditions import refuse_inert
from parakit.cli.rendering.training_command import (
    RUN_FLAG_RULES,
    RunFlags,
    confirm_resume,
    find_rate_of,
    show_before_after,
)
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.recipe.build_folder import resolve_model_folder


class AlignCommandConfig(RunFlags):
    """Align a chat-tuned model: `reward` trains a reward model and `dpo` a policy, both on preferences; the other
    methods train a policy on its own completions of prompts. The same command resumes an interrupted run.
    """

    model: tyro.conf.Positional[str] = Field(description="The model folder to start from; it is not changed.")
    output: str = Field(description="The model folder to write.")
    preferences: tuple[str, ...] = Field(
        default=(),
        description="For reward and dpo: JSON-lines, JSON or Parquet "
        "files, or a folder that `parakit text` wrote.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit align` with these arguments."""
    command, training = parse_arguments(AlignCommandConfig, AlignConfig, argv, "parakit align")
    from parakit.stages.job_builders import align, align_job, output_folder

    refuse_inert(command, RUN_FLAG_RULES)
    with output_folder(command.output, command.overwrite) as (out, work):
        model = resolve_model_folder(command.model)
        job = align_job(model, work, training, preferences=command.preferences)
        if command.find_rate:
            return find_rate_of(job, command.output, command.as_json)
        figures = align(job, out, command.overwrite, confirm_resume(command))
    if command.as_json:
        print(json.dumps(figures))
    show_before_after(figures)
    log(_last_line(training.method, figures, out))
    return 0


def _last_line(method: Method, figures: JsonObject, out: Path) -> str:
    before = figures.get("before") or {}
    if method == "reward":
        judged = figures["reward_eval"]
        return (
            f"{judged['accuracy']:.1%} of {judged['pairs']} held-out pairs ranked correctly ({judged['low']:.1%} to"
            f" {judged['high']:.1%}), by length alone {judged['length_baseline']:.1%}; calibration error"
            f" {judged['calibration_error']:.1%}: parakit evaluate {out} --preferences FILE"
        )
    if method == "dpo":
        return (
            f"the chosen answer is the likelier one in {figures['logp_accuracy']:.1%} of held-out pairs (before:"
            f" {before['logp_accuracy']:.1%}), and its log-probability rose more in {figures['accuracy']:.1%}:"
            f" parakit chat {out}"
        )
    start = f" (before: {before['reward']:.3f})" if "reward" in before else ""
    reward = f"reward {figures['reward']:.3f}{start}: " if "reward" in figures else ""
    return f"{reward}parakit chat {out}"
