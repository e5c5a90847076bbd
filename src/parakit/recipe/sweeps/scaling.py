"""A family of models for a scaling law: the pre-training of a recipe at several sizes and lengths, as a sweep.

Every run is a build of its own, so that the same command resumes what was interrupted and trains only what is new. The
law is fitted to the finished runs, and to other builds of the same tokens where they are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.model.config import model_config
from parakit.model.presets import config_for_size, parse_size
from parakit.planning.scaling_laws import MIN_LENGTHS, MIN_SIZES, ScalingRun
from parakit.planning.time import choose_size, training_flops_per_token
from parakit.recipe.build_state import SWEEP
from parakit.recipe.config import RecipeConfig
from parakit.recipe.predicted_loss import law_data
from parakit.recipe.sweeps.grid import Seeds
from parakit.recipe.sweeps.plan import Sweep, is_sweep, plan_sweep, read_sweep
from parakit.recipe.sweeps.running import run_sweep
from parakit.reports.summary import read_summary
from parakit.reports.summary_schema import BuildSummary
from parakit.reports.sweeps.law import (
    FamilyRun,
    LawReport,
    check_sentence,
    fit_family,
    notes,
    write_law_report,
)
from parakit.stages.config import PretrainConfig

SIZE, TOKENS = "size", "pretrain.max_tokens"
LARGEST_SHARE = 0.3  # of the family's time, for the run of the most parameters and tokens
STEPS_APART = (4, 2, 1)  # a family in a given time: the largest size and length, their halves and quarters
# What follows pre-training, and what sets the size and the length that the family has of its own.
_LEFT_OUT = {
    *("name", "time", "size", "conversations", "examples", "finetune", "preferences", "align", "distill"),
    *("quantize", "questions", "replay", "scaling_law"),
}
_LENGTHS = ("max_steps", "max_tokens", "epochs", "revisions")


def plan_family(
    recipe: RecipeConfig,
    folder: Path,
    sizes: Sequence[str],
    tokens: Sequence[int],
    seeds: Seeds | None = None,
) -> Sweep:
    """The sweep in `folder` with a run for every size, number of tokens and seed. `UserError` for fewer sizes or lengths
    than a law takes, and for a recipe that trains no new model.
    """
    check_axes(sizes, tokens)
    varied = {SIZE: tuple(sizes), TOKENS: tuple(tokens)}
    return plan_sweep(pretraining_of(recipe, folder.name), folder.parent, seeds, varied)


def check_axes(sizes: Sequence[str], tokens: Sequence[int]) -> None:
    """`UserError` where the sizes or the lengths are fewer than a law takes, or one is there twice."""
    for flag, values, least in (
        ("sizes", list(map(parse_size, sizes)), MIN_SIZES),
        ("tokens", tokens, MIN_LENGTHS),
    ):
        if repeated := next((value for value in values if values.count(value) > 1), None):
            raise UserError(f"--{flag}: {repeated:,} is there twice", "name each value once")
        if len(values) < least:
            raise UserError(
                f"--{flag} names {len(values)}, and a law takes {least} at least",
                "fewer do not determine its limit, its constants and its exponents: name more",
            )


def pretraining_of(recipe: RecipeConfig, name: str) -> Callable[[Mapping[str, Any]], RecipeConfig]:
    """Makes the recipe of a run: only pre-training and the evaluation of its model, with dotted keys laid over it."""
    if recipe.brought or not isinstance(recipe.pretrain, PretrainConfig):
        what = f"`{recipe.brought}` brings a trained one" if recipe.brought else "`pretrain` is none"
        raise UserError(
            f"a scaling law is of new models, and {what}", "take a recipe that trains a model from scratch"
        )
    plain = recipe.model_dump(mode="json", exclude_unset=True)
    base: JsonObject = {key: value for key, value in plain.items() if key not in _LEFT_OUT}
    evaluate: JsonObject = dict(base.get("evaluate", {}))
    evaluate.pop("gate", None)
    training = {key: value for key, value in base.get("pretrain", {}).items() if key not in _LENGTHS}

    def make(varied: Mapping[str, Any]) -> RecipeConfig:
        values = base | {"name": name, "evaluate": evaluate, "pretrain": dict(training)}
        for key, value in varied.items():
            section, _, inner = key.rpartition(".")
            (values[section] if section else values)[inner] = value
        return RecipeConfig.parse(values, name)

    return make


def chosen_family(
    recipe: RecipeConfig,
    folder: Path,
    sizes: Sequence[str],
    tokens: Sequence[int],
    seconds: float | None,
    seeds: Seeds | None = None,
) -> Sweep:
    """`plan_family` with the sizes and tokens that are given, those that the folder already has, or those that fit into
    `seconds`. `UserError` where none of these are there.
    """
    if not (sizes and tokens):
        planned = planned_axes(folder)  # a time is measured once: a repeated command resumes the same runs
        if planned is None and seconds is None:
            raise UserError(
                "neither the sizes and tokens of the family nor a time are given",
                "name --sizes 200k 400k 800k --tokens 1m 2m 4m, or --time 30min",
            )
        if planned is None:
            assert seconds is not None
            sizes, tokens = family_in_time(recipe, seconds, sizes, tokens)
        else:
            sizes, tokens = sizes or planned[0], tokens or planned[1]
        log(
            f"the family: {', '.join(sizes)} parameters; {', '.join(f'{one:,}' for one in tokens)} tokens each"
        )
    return plan_family(recipe, folder, sizes, tokens, seeds)


def family_in_time(
    recipe: RecipeConfig, seconds: float, sizes: Sequence[str] = (), tokens: Sequence[int] = ()
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Sizes and lengths whose runs take about `seconds` together on this machine, one after the other; those given stay."""
    from parakit.stages.planning.speed import training_speed

    assert isinstance(recipe.pretrain, PretrainConfig)
    speed = training_speed(recipe.pretrain, recipe.pretrain.seq_len or recipe.max_seq_len)
    shape = (
        recipe.tokenizer.vocab_size,
        recipe.max_seq_len,
        recipe.family,
        recipe.architecture,
        recipe.model,
    )
    if not sizes:
        largest = choose_size(LARGEST_SHARE * seconds, speed, 10**15, *shape).config.n_params()["total"]
        sizes = tuple(str(round(largest / apart)) for apart in STEPS_APART)
    configs = [config_for_size(size, *shape).config for size in sizes]
    if not tokens:
        seconds_per_token = sum(1 / speed(config) for config in configs)
        longest = seconds / seconds_per_token / sum(1 / apart for apart in STEPS_APART)
        tokens = tuple(_rounded(longest / apart) for apart in STEPS_APART)
    return tuple(sizes), tuple(tokens)


def fit_builds(
    folder: Path,
    sweep: Sweep | None,
    builds: Sequence[Path] = (),
    wanted: Sequence[tuple[float, float]] = (),
    parallel: int = 1,
) -> tuple[LawReport, list[str]]:
    """Train what is missing of `sweep`, fit a law to its runs and to `builds`, and write the report to `folder`/law; the
    report, and the runs that failed. `wanted`: (parameters, tokens) of larger runs.
    """
    failed, finished = [], []
    if sweep is not None:
        failed = [one.run for one in run_sweep(sweep, parallel) if one.status == "failed"]
        finished = without_failed(sweep)
    report = fit_family(folder.name, family_runs([*finished, *builds]), wanted)
    page = write_law_report(report, folder / "law")
    for line in filter(None, [*notes(report), check_sentence(report)]):
        log(line)
    log(f"report: {page}")
    return report, failed


def planned_axes(folder: Path) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
    """The sizes and lengths of the family in `folder`; None where there is none yet."""
    if not is_sweep(folder):
        return None
    varied = read_sweep(folder).varied
    if set(varied) != {SIZE, TOKENS}:
        raise UserError(
            f"{folder / SWEEP}: is a sweep of {', '.join(varied) or 'seeds'}, no family of sizes and lengths",
            "choose another --output",
        )
    return tuple(map(str, varied[SIZE])), tuple(map(int, varied[TOKENS]))


def family_runs(folders: Sequence[Path]) -> list[FamilyRun]:
    """The pre-training of these builds. `UserError` for one that has none, or another tokenizer, data, kind of model or
    unit of the loss than the first.
    """
    found: list[FamilyRun] = []
    for folder in folders:
        run = _read_run(folder)
        first = found[0] if found else run
        if differing := [key for key in run.data if run.data[key] != first.data.get(key)]:
            raise UserError(
                f"{folder}: has another {differing[0]} than {first.folder}: their losses do not belong to one law",
                "fit the law to builds of the same recipe that differ in size and length only",
            )
        found.append(run)
    return found


def _read_run(folder: Path) -> FamilyRun:
    if not (folder / "summary.json").is_file():
        raise UserError(f"{folder}: is no finished build", "name folders that `parakit build` wrote")
    summary = read_summary(folder / "summary.json")
    figures = summary.training("pretrain")
    if figures is None or figures.parameters is None or figures.tokens is None:
        raise UserError(f"{folder}: its build pre-trained no model", "name builds of new models")
    config = model_config(figures.family, figures.config, str(folder))
    per_token = training_flops_per_token(config, int(figures.plan["seq_len"]))
    loss = math.nan if figures.loss is None else figures.loss
    return FamilyRun(
        folder,
        int(figures.plan["seed"]),
        ScalingRun(figures.parameters, figures.tokens, loss, per_token * figures.tokens),
        figures.loss_unit,
        figures.bits_per_byte,
        figures.training_seconds,
        _train_tokens(summary),
        law_data(summary, figures),
    )


def _train_tokens(summary: BuildSummary) -> int | None:
    splits = getattr(summary.stages.get("shards"), "splits", {})
    count = splits.get("train", {}) if isinstance(splits, Mapping) else {}
    return count.get("tokens") if isinstance(count, Mapping) else None


def without_failed(sweep: Sweep) -> list[Path]:
    """The builds of a family that are finished; the others are named."""
    finished = []
    for run in sweep.runs:
        folder = sweep.build_folder(run.name)
        if (folder / "summary.json").is_file():
            finished.append(folder)
        else:
            log(f"left out of the law: {run.name}, which is not finished")
    return finished


def _rounded(value: float) -> int:
    """With two digits."""
    power = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return max(power, round(value / power) * power)
