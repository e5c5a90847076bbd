"""Merging several models of one shape and tokenizer into one, by the methods of `methods`.

The result is compared with its sources: the loss of each on the built-in general texts is recorded, because a merge of
models that do not fit together is easily made and hard to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from parakit.checkpoints.config_equivalence import config_diff
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import head_of, save_model
from parakit.checkpoints.publisher import choose_architecture, publisher_of
from parakit.checkpoints.weights import require_finite_weights
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.compression.merging.adapters import lineage_config
from parakit.compression.merging.config import LinearMerge, MergeMethod, SlerpMerge
from parakit.compression.merging.methods import merge_tensors
from parakit.evaluation.general_text import general_loss
from parakit.model.adapters import is_adapted
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_Loaded = tuple[TransformerModel, Tokenizer | None]


@dataclass(frozen=True)
class ModelMerge:
    """The written folder; the loss on general text, in nats a token, of each source and of the result (None: the models
    predict no next tokens, or have no tokenizer).
    """

    folder: Path
    source_losses: tuple[float, ...] | None = None
    loss: float | None = None


def merge_models(
    folders: Sequence[str | Path],
    output: str | Path,
    method: MergeMethod | None = None,
    *,
    base: str | Path | None = None,
    overwrite: bool = False,
) -> ModelMerge:
    """Merge models with one config and one tokenizer (None: into their mean), computed in float64 and written as float32. A
    `base` for the methods that work on what tuning changed. `UserError` names the first tensor, setting or weight that
    does not fit.
    """
    method = LinearMerge() if method is None else method
    _check_request(method, len(folders), base)
    first, tokenizer = _load(folders[0])
    others: list[TransformerModel] = []
    for folder in [*folders[1:], *([] if base is None else [base])]:
        model, its_tokenizer = _load(folder)
        check_compatible(folders[0], (first, tokenizer), folder, (model, its_tokenizer))
        others.append(model)
    models = [first, *others[: len(folders) - 1]]
    losses = [loss_on_general_text(model, tokenizer) for model in models]
    parameters = [dict(model.named_parameters()) for model in models]
    start = dict(others[-1].named_parameters()) if base is not None else {}
    with torch.no_grad():
        for name, target in first.named_parameters():
            target.copy_(merge_tensors(method, name, [one[name] for one in parameters], start.get(name)))
    del others, models, parameters, start
    loss = loss_on_general_text(first, tokenizer)
    config: JsonObject = {"stage": "merge", **method.model_dump(mode="json")}
    config["chat"] = all(bool(lineage_config(Path(folder)).get("chat")) for folder in folders)
    result: JsonObject = {}
    known = [one for one in losses if one is not None]
    if loss is not None and len(known) == len(losses):
        result = {"general_loss": {"sources": known, "merged": loss}}
    parents = [*folders, *([] if base is None else [base])]
    written = save_merged(first, tokenizer, output, config, parents, result, overwrite)
    return ModelMerge(written, tuple(known) if result else None, loss if result else None)


def save_merged(
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    output: str | Path,
    config: JsonObject,
    parents: Sequence[str | Path],
    result: JsonObject,
    overwrite: bool,
) -> Path:
    """Write a merged model whose weights are all finite; those of `parents` that have a lineage are recorded."""
    architecture = choose_architecture(model.config, head_of(model), publisher_of(model))
    require_finite_weights(model, architecture, head_of(model), str(output))
    known: list[str | Path] = [folder for folder in parents if (Path(folder) / LINEAGE).is_file()]
    return save_model(model, tokenizer, output, Lineage("model", config, known, result=result), overwrite)


def check_compatible(one: str | Path, first: _Loaded, other: str | Path, second: _Loaded) -> None:
    """`UserError` naming the first tensor, setting or token in which two models differ in shape."""
    hint = "only models with one config and tokenizer can be merged"
    (model, tokenizer), (its_model, its_tokenizer) = first, second
    if type(model) is not type(its_model):
        names = type(model).__name__, type(its_model).__name__
        raise UserError(f"{one} and {other} are of different kinds: {names[0]} and {names[1]}", hint)
    shapes, its_shapes = (
        {name: tuple(p.shape) for name, p in one.named_parameters()} for one in (model, its_model)
    )
    for name in [*shapes, *its_shapes]:
        if shapes.get(name) != its_shapes.get(name):
            found = [str(known.get(name, "absent")) for known in (shapes, its_shapes)]
            raise UserError(
                f"{one} and {other} have different shapes: {name} is {found[0]} and {found[1]}", hint
            )
    for name, (value, its_value) in config_diff(model.config, its_model.config).items():
        raise UserError(f"{one} and {other} differ in {name}: {value!r} and {its_value!r}", hint)
    if (tokenizer and tokenizer.digest) != (its_tokenizer and its_tokenizer.digest):
        raise UserError(
            f"{one} and {other} have different tokenizers{_first_token(tokenizer, its_tokenizer)}", hint
        )


def _first_token(one: Tokenizer | None, other: Tokenizer | None) -> str:
    if one is None or other is None:
        return ": one of them has none"
    pairs = ((i, t) for t, i in sorted(one.vocabulary.items(), key=lambda pair: pair[1]))
    differing = next((i for i, token in pairs if other.vocabulary.get(token) != i), None)
    return (
        ""
        if differing is None
        else f": the token {one.token(differing)!r} has the id {differing} in one only"
    )


def _check_request(method: MergeMethod, n_models: int, base: str | Path | None) -> None:
    if n_models < 2 and (base is None or n_models < 1):
        raise UserError(f"{n_models} model to merge", "name two or more")
    if isinstance(method, SlerpMerge) and n_models != 2:
        raise UserError(f"slerp goes from one model to another, and {n_models} are given", "name two models")
    needs_base = not isinstance(method, LinearMerge | SlerpMerge)
    if needs_base and base is None:
        raise UserError(
            f"{method.method} merges what tuning changed, and no base is given",
            "name the model that all were tuned from: --base FOLDER",
        )
    if not needs_base and base is not None:
        raise UserError(f"{method.method} has no base, and {base} is given", "remove it, or choose ties")
    weights = () if isinstance(method, SlerpMerge) else method.weights
    if weights and len(weights) != n_models:
        raise UserError(f"{len(weights)} weights for {n_models} models", "give one weight a model")
    if weights and isinstance(method, LinearMerge) and sum(weights) <= 0:
        raise UserError(f"the weights {list(weights)} sum to {sum(weights)}", "they must sum to more than 0")


def _load(folder: str | Path) -> _Loaded:
    model, tokenizer = load_model(folder, dtype="float32")
    if is_adapted(model):
        raise UserError(
            f"{folder}: is an adapter, and whole models are merged by a method",
            f"merge it into its base first: parakit merge {folder} --output FOLDER",
        )
    return model, tokenizer


def loss_on_general_text(model: TransformerModel, tokenizer: Tokenizer | None) -> float | None:
    """In nats a token; None for a model that predicts no next tokens, or without a tokenizer."""
    if not isinstance(model, LanguageModel) or tokenizer is None:
        return None
    return general_loss(model, tokenizer).loss_nats_per_token
