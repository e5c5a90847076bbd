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
from parakit.planning.time import SHARE_OF_PEAK, choose_size, training_flops_per_token
from parakit.recipe.build_state import SWEEP
from parakit.recipe.config import RecipeConfig
from parakit.recipe.sweeps.grid import Seeds
from parakit.recipe.sweeps.plan import Sweep, is_sweep, plan_sweep, read_sweep
from parakit.reports.summary import read_summary
from parakit.reports.summary_schema import BuildSummary
from parakit.reports.sweeps.law import FamilyRun
from parakit.stages.config import PretrainConfig

SIZE, TOKENS = "size", "pretrain.max_tokens"
LARGEST_SHARE = 0.3  # of the family's time, for the run of the most parameters and tokens
STEPS_APART = (4, 2, 1)  # a family in a given time: the largest size and length, their halves and quarters
# What follows pre-training, and what sets the size and the length that the family has of its own.
_LEFT_OUT = {
    *("name", "time", "size", "conversations", "examples", "finetune", "preferences", "align", "distill"),
    *("quantize", "questions", "replay"),
}
_LENGTHS = ("max_steps", "max_tokens", "epochs", "revisions")
_SAME = {"tokenizer": "tokenizer", "shards": "data"}


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


def family_in_time(
    recipe: RecipeConfig, seconds: float, sizes: Sequence[str] = (), tokens: Sequence[int] = ()
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Sizes and lengths whose runs take about `seconds` together on this machine, one after the other; those given stay."""
    import torch

    from parakit.common.devices import pick_device
    from parakit.training.throughput import measure_peak_flops

    assert isinstance(recipe.pretrain, PretrainConfig)
    device = pick_device(recipe.pretrain.device)
    peak = measure_peak_flops(device.type, torch.float32 if device.type == "cpu" else torch.bfloat16)
    shape = (
        recipe.tokenizer.vocab_size,
        recipe.max_seq_len,
        recipe.family,
        recipe.architecture,
        recipe.model,
    )
    if not sizes:
        largest = choose_size(LARGEST_SHARE * seconds, peak, 10**15, *shape).config.n_params()["total"]
        sizes = tuple(str(round(largest / apart)) for apart in STEPS_APART)
    configs = [config_for_size(size, *shape).config for size in sizes]
    if not tokens:
        seq_len = recipe.pretrain.seq_len or recipe.max_seq_len
        each = sum(training_flops_per_token(config, seq_len) for config in configs)
        longest = seconds * peak * SHARE_OF_PEAK / each / sum(1 / apart for apart in STEPS_APART)
        tokens = tuple(_rounded(longest / apart) for apart in STEPS_APART)
    return tuple(sizes), tuple(tokens)


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
    first: tuple[Path, dict[str, str]] | None = None
    for folder in folders:
        run, identity = _read_run(folder)
        first = first or (folder, identity)
        if differing := [key for key in identity if identity[key] != first[1].get(key)]:
            raise UserError(
                f"{folder}: has another {differing[0]} than {first[0]}: their losses do not belong to one law",
                "fit the law to builds of the same recipe that differ in size and length only",
            )
        found.append(run)
    return found


def _read_run(folder: Path) -> tuple[FamilyRun, dict[str, str]]:
    if not (folder / "summary.json").is_file():
        raise UserError(f"{folder}: is no finished build", "name folders that `parakit build` wrote")
    summary = read_summary(folder / "summary.json")
    figures = summary.training("pretrain")
    if figures is None or figures.parameters is None or figures.tokens is None:
        raise UserError(f"{folder}: its build pre-trained no model", "name builds of new models")
    config = model_config(figures.family, figures.config, str(folder))
    per_token = training_flops_per_token(config, int(figures.plan["seq_len"]))
    loss = math.nan if figures.loss is None else figures.loss
    run = FamilyRun(
        folder,
        int(figures.plan["seed"]),
        ScalingRun(figures.parameters, figures.tokens, loss, per_token * figures.tokens),
        figures.loss_unit,
        figures.bits_per_byte,
        figures.training_seconds,
        _train_tokens(summary),
    )
    return run, _identity(summary) | {"family": figures.family, "unit of the loss": figures.loss_unit}


def _identity(summary: BuildSummary) -> dict[str, str]:
    digests = {entry.stage: entry.digest for entry in summary.lineage}
    return {name: digests.get(stage, "") for stage, name in _SAME.items()}


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
