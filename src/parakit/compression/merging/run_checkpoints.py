"""Averaging the last checkpoints of a run (Izmailov et al. 2018; Kaddour 2022): late in training their mean is often
better than each, at no cost.

A run is a folder of model folders that end in their step (`checkpoint-500`, as transformers' Trainer writes them), or a run
directory of Parakit's with `step-00000500`: the states that an interrupted run is resumed from, of which the run keeps the
two newest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from parakit.checkpoints.folder_safety import is_model_folder
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_checked_json
from parakit.compression.merging.adapters import lineage_config
from parakit.compression.merging.models import (
    ModelMerge,
    check_compatible,
    loss_on_general_text,
    save_merged,
)
from parakit.model import heads
from parakit.model.config import DecoderConfig, model_config
from parakit.model.heads import TransformerModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_NAME = re.compile(r"(?:.*[-_])?(\d+)")
_LAST = re.compile(r"last:(\d{1,4})|all")
_PLAN = "plan.json"


def merge_checkpoints(
    run: str | Path,
    output: str | Path,
    which: str = "all",
    *,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> ModelMerge:
    """The mean of a run's checkpoints as a model folder; `which`: "all", or "last:5". `tokenizer`: a folder with one, for the
    states of an interrupted run, which hold none. `UserError` for a run with fewer checkpoints.
    """
    found = checkpoints_of(Path(run))
    chosen = _choose(found, which, run)
    is_state = not is_model_folder(chosen[0])
    if is_state and any(is_model_folder(path) for path in chosen):
        raise UserError(f"{run}: holds states of training and model folders", "name one folder of either")
    own = None if tokenizer is None else Tokenizer.load(tokenizer)
    models = _states(Path(run), chosen) if is_state else _models(chosen)
    first, its_tokenizer = next(models)
    sums = {name: p.detach().double() for name, p in first.named_parameters()}
    losses = [loss_on_general_text(first, own or its_tokenizer)]
    for path, (model, other) in zip(chosen[1:], models, strict=True):
        check_compatible(chosen[0], (first, its_tokenizer), path, (model, other))
        losses.append(loss_on_general_text(model, own or other))
        for name, p in model.named_parameters():
            sums[name] += p.detach().double()
    with torch.no_grad():
        for name, p in first.named_parameters():
            p.copy_(sums[name] / len(chosen))
    loss = loss_on_general_text(first, own or its_tokenizer)
    steps = [_step(path) for path in chosen]
    config: JsonObject = {"stage": "merge", "method": "checkpoints", "steps": steps}
    config["chat"] = all(bool(lineage_config(path).get("chat")) for path in chosen)
    known = [one for one in losses if one is not None]
    result: JsonObject = {"general_loss": {"sources": known, "merged": loss}} if loss is not None else {}
    written = save_merged(first, own or its_tokenizer, output, config, chosen, result, overwrite)
    return ModelMerge(written, tuple(known) if loss is not None else None, loss)


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    if not run.is_dir():
        raise UserError(f"{run}: no such folder", "name the folder of a run")
    inside = [path for path in run.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    found = [path for path in inside if is_model_folder(path) or (path / "weights.safetensors").is_file()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])


def _choose(found: list[Path], which: str, run: str | Path) -> list[Path]:
    match = _LAST.fullmatch(which)
    if match is None or match[1] == "0":
        raise UserError(f"--checkpoints {which}: is no choice of checkpoints", "write last:5, or all")
    n = int(match[1]) if match[1] else len(found)
    if len(found) < max(2, n):
        raise UserError(
            f"{run}: has {len(found)} checkpoints, and {max(2, n)} are to be averaged",
            "name the folder that holds them, each in a folder that ends in its step: checkpoint-500",
        )
    return found[-n:]


def _models(paths: list[Path]) -> Iterator[tuple[TransformerModel, Tokenizer | None]]:
    for path in paths:
        yield load_model(path, dtype="float32")


def _states(run: Path, paths: list[Path]) -> Iterator[tuple[TransformerModel, Tokenizer | None]]:
    """The models of a run's states; `UserError` where it trains an adapter, or something else than a decoder."""
    if not (run / _PLAN).is_file():
        raise UserError(
            f"{run / _PLAN}: is missing, so the model's shape is not known", "name a run directory"
        )
    saved = read_checked_json(run / _PLAN, "the run directory is damaged")
    config = model_config(saved["family"], saved["config"], str(run / _PLAN))
    if not isinstance(config, DecoderConfig):
        raise UserError(
            f"{run}: trains an {config.family}", "average its finished models: parakit merge A B ..."
        )
    for path in paths:
        open_artifact(path, "train_state")
        model = heads.LanguageModel(config)
        weights = load_file(path / "weights.safetensors")
        wanted = {name for name, _ in model.named_parameters()}
        if differing := sorted(wanted ^ weights.keys()):
            raise UserError(
                f"{path}: does not hold all weights of a decoder, or others, such as {differing[0]!r}",
                "a run that trains an adapter, or another head, has no whole models to average",
            )
        model.load_state_dict(weights, strict=False)
        yield model.eval(), None
