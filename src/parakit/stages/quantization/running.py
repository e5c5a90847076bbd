"""Quantization as a stage: from a model folder to a folder with quantized weights and what that cost.

The folder is written only after everything was measured; an interrupted or refused run leaves nothing behind. The figures are
in its lineage and its card, and in `training/quantization.json`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from parakit.checkpoints import publisher
from parakit.checkpoints.adapters import is_adapter_folder
from parakit.checkpoints.compressed_tensors.export import saved_quantization
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import head_of, save_model
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_json_atomic, write_text_atomic
from parakit.common.progress import log
from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.plan import plan_quantization
from parakit.compression.quantization.quantize import SuiteSettings, check_can_quantize, quantize_model
from parakit.inference.folder_settings import is_chat_tuned
from parakit.model.heads import LanguageModel
from parakit.model.quantized import quantize_modules
from parakit.primer.config import PrimerSuitesConfig
from parakit.reports.cards.model_card import stage_card
from parakit.reports.quantization import sensitivity_svg
from parakit.stages.defaults.published import is_published

FIGURES, PICTURE = "quantization.json", "sensitivity.svg"
RECIPE = "recipe.json"  # of the build around a model


def quantize_folder(
    model: Path,
    out: Path,
    config: QuantizeConfig,
    *,
    suites: PrimerSuitesConfig | None = None,
    overwrite: bool = False,
) -> JsonObject:
    """Quantize the model in the folder `model` and write `out`; returns the figures.

    `suites`: run before and after; None: none. Raises `UserError` for an adapter, for what is no plain language model and for
    settings that do not fit it, `QualityLoss` where a suite falls by more than a point.
    """
    if is_adapter_folder(model):
        raise UserError(
            f"{model}: is an adapter, and quantization needs one model",
            "merge it into its base first: parakit merge ADAPTER --output FOLDER",
        )
    network, tokenizer = load_model(model, dtype="float32")
    check_can_quantize(network, model)
    assert isinstance(network, LanguageModel)
    _check_can_save(network, config)
    is_chat = is_chat_tuned(model)
    settings = SuiteSettings(suites, is_chat) if suites is not None else None
    quantization = quantize_model(network, tokenizer, model, config, settings)
    figures: JsonObject = {
        "family": network.config.family,
        "parameters": network.config.n_params()["total"],
        "config": network.config.model_dump(mode="json"),
        "quantization": quantization,
    } | ({"task": "chat"} if is_chat else {})
    recorded: JsonObject = {
        "stage": "quantize",
        "chat": is_chat,
        "quantization": config.model_dump(mode="json"),
    }
    if is_published(model):
        recorded["published"] = True  # what is tuned from it keeps its defaults
    lineage = Lineage(
        "model",
        recorded,
        [model] if (model / LINEAGE).is_file() else [],  # a published folder has no lineage
        result=figures,
    )
    card = stage_card(out.resolve().parent.name, "quantize", figures)
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / FIGURES]
        write_json_atomic(logs[0], quantization)
        if picture := sensitivity_svg(quantization["sensitivity"]):
            logs.append(Path(folder) / PICTURE)
            write_text_atomic(logs[1], picture)
        save_model(network, tokenizer, out, lineage, overwrite, card=card, logs=logs)
    log(f"quantize: written to {out}")
    return figures


def _check_can_save(model: LanguageModel, config: QuantizeConfig) -> None:
    """`UserError` where a folder cannot hold such a model, before minutes of work: tried on a model without values."""
    head = head_of(model)
    architecture = publisher.choose_architecture(model.config, head, publisher.publisher_of(model))
    schemes = plan_quantization(model, config).schemes
    with torch.device("meta"):
        shell = LanguageModel(model.config)
        quantize_modules(shell, schemes)
    saved_quantization(shell, architecture, head)


def recorded_suites(model: Path) -> PrimerSuitesConfig | None:
    """The suites of the build that a model is in; None where it is in none, or its recipe has no suites."""
    recipe = model.resolve().parent / RECIPE
    if not recipe.is_file():
        return None
    suites = (read_json(recipe).get("evaluate") or {}).get("suites")
    return None if suites is None else PrimerSuitesConfig.parse(suites, str(recipe))
