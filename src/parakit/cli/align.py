"""`parakit align`: a reward model from preferences, or a policy that follows them or a reward."""

import json
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field

from parakit.alignment.config import AlignConfig, Method
from parakit.cli.main import merge_repeated_flags
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.recipe.build_folder import resolve_model_folder
from parakit.stages.post_training_config import REWARDED

SUMMARY = "Align a tuned model: a reward model, DPO, PPO, GRPO, and more."
_LEARNS_FROM: dict[Method, str] = {
    "reward": "preferences",
    "dpo": "preferences",
    "ppo": "prompts",
    "grpo": "prompts",
    "best_of_n": "prompts",
    "constitution": "prompts",
}
_SAMPLES = {"preferences": "pairs.jsonl", "prompts": "chats.jsonl"}


class AlignCommandConfig(AlignConfig):
    """Align a model that was tuned for chat: `reward` learns to judge answers from preferences, `dpo` follows
    preferences, the others follow a reward on prompts. Interrupted, the same command goes on.
    """

    model: tyro.conf.Positional[str] = Field(description="The model folder to start from; it is not changed.")
    output: str = Field(description="The model folder to write.")
    method: Method = Field(description="How.")
    preferences: tuple[str, ...] = Field(
        default=(),
        description="reward, dpo: JSON-lines, JSON or Parquet files, or a folder that `parakit text` wrote.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="Other methods: JSON-lines files of conversations whose last question is asked (what follows it"
        " is the right answer), or a folder of conversations.",
    )
    reward: str | None = Field(
        default=None,
        description="ppo, grpo, best_of_n: a reward model's folder, final_answer, exact_answer, contains_answer,"
        " format=REGEX, length=WORDS, unit_tests, or python=module:function.",
    )
    monitor_rewards: tuple[str, ...] = Field(
        default=(),
        description="ppo, grpo, best_of_n: other rewards, named alike, that are measured on held-out prompts and"
        " never followed; one that falls is a sign of following --reward too far.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as JSON."
    )


def main(argv: list[str]) -> int:
    """Run `parakit align` with these arguments."""
    argv = merge_repeated_flags(argv, ["--preferences", "--prompts", "--monitor-rewards"])
    command = tyro.cli(
        AlignCommandConfig, args=argv, prog="parakit align", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.rendering.training_command import output_folder, training_config

    training = training_config(command, AlignConfig, command.method)
    _check_data(command)
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.stages.alignment import AlignJob, align

        data = _data(command, work)
        start = resolve_model_folder(command.model)
        job = AlignJob(start, data, work, training, command.method, command.reward, command.monitor_rewards)
        figures = align(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    log(_last_line(command.method, figures, out))
    return 0


def _check_data(command: AlignCommandConfig) -> None:
    """A method, and the files that it learns from."""
    wanted = _LEARNS_FROM[command.method]
    other = "prompts" if wanted == "preferences" else "preferences"
    if not getattr(command, wanted):
        raise UserError(
            f"no {wanted} were given for the method {command.method!r}",
            f"name files: --{wanted} {_SAMPLES[wanted]}",
        )
    if getattr(command, other):
        raise UserError(
            f"--{other} is set, and the method {command.method!r} learns from {wanted}",
            f"take it out, or name another --method (with --{wanted})",
        )
    for name in ("reward", "monitor_rewards"):
        if getattr(command, name) and command.method not in REWARDED:
            raise UserError(
                f"--{name.replace('_', '-')} is set, and the method {command.method!r} follows no reward:"
                f" it learns from {wanted}",
                f"take it out, or choose one of {', '.join(REWARDED)}",
            )


def _data(command: AlignCommandConfig, work: Path) -> Path:
    """The folder that the method learns from: the one that was named, or one made of the files."""
    wanted = _LEARNS_FROM[command.method]
    paths = getattr(command, wanted)
    folder = Path(paths[0])
    if len(paths) == 1 and (folder / LINEAGE).is_file():
        return folder
    from parakit.stages.data import make_preferences, make_prompts

    if wanted == "preferences":
        return make_preferences(paths, work / "preferences", overwrite=True)
    return make_prompts(command.method, paths, work / "prompts")


def _last_line(method: Method, figures: dict[str, Any], out: Path) -> str:
    before = figures.get("before") or {}
    if method == "reward":
        judged = figures["reward_eval"]
        return (
            f"held out, {judged['accuracy']:.1%} of {judged['pairs']} pairs judged right ({judged['low']:.1%} to"
            f" {judged['high']:.1%}), by length alone {judged['length_baseline']:.1%}; calibration error"
            f" {judged['calibration_error']:.1%}: parakit evaluate {out} --preferences FILE"
        )
    if method == "dpo":
        return (
            f"held out, the better answer is the likelier one in {figures['logp_accuracy']:.1%} of pairs (before:"
            f" {before['logp_accuracy']:.1%}), and gained more in {figures['accuracy']:.1%}: parakit chat {out}"
        )
    start = f" (before: {before['reward']:.3f})" if "reward" in before else ""
    found = f"reward {figures['reward']:.3f}{start}: " if "reward" in figures else ""
    return f"{found}parakit chat {out}"
