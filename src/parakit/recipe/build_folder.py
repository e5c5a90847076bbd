"""Resolves a path to a model folder: a build's folder stands for its last model. Imports nothing that reads recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from parakit.common.artifacts import BUILD, RECIPE, has_kind
from parakit.common.files import read_json
from parakit.inference.chat_models.locations import is_endpoint

REWARD = "reward"


def resolve_model_folder(path: str | Path) -> Path:
    """The last model of a build's pipeline, where `path` is the folder of a build; any other path as it is."""
    path = Path(path)
    if (path / BUILD).is_file():
        for stage in reversed(_model_stages(path)):
            if (path / stage).is_dir():
                return path / stage
    return path


def model_location(where: str | Path) -> str:
    """The URL of an endpoint as it is, or the model folder that a folder stands for."""
    return where if isinstance(where, str) and is_endpoint(where) else str(resolve_model_folder(where))


def build_index(path: str | Path) -> Path | None:
    """The index of documents of the build in the folder `path`; None where it is no build, or has none."""
    index = Path(path) / "index"
    return index if (Path(path) / BUILD).is_file() and has_kind(index, "index") else None


def chat_stage_names(methods: Iterable[str], distilled: bool, quantized: bool = False) -> list[str]:
    """Of these steps of alignment, of distillation and of quantization, the stages whose models generate text, in order."""
    after = [*(["distill"] if distilled else []), *(["quantize"] if quantized else [])]
    return [*(method for method in methods if method != REWARD), *after]


def _model_stages(build: Path) -> list[str]:
    """The stages that make models for use, in pipeline order; a reward model is none of them."""
    recipe = read_json(build / RECIPE) if (build / RECIPE).is_file() else {}
    methods = (step["method"] for step in recipe.get("align") or [])
    return [
        "pretrain",
        "finetune",
        *chat_stage_names(methods, bool(recipe.get("distill")), bool(recipe.get("quantize"))),
    ]
