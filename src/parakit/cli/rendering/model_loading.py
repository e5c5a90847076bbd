"""What verbs that take a model share: which folder a path means, a model that can be talked to, sizes of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.common.devices import pick_device, pick_dtype
from parakit.common.errors import UserError
from parakit.common.files import read_json

if TYPE_CHECKING:
    from parakit.model.adapters import AdapterSet
    from parakit.model.heads import LanguageModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

RECIPE = "recipe.json"  # what a build was made from, in its folder


@dataclass(frozen=True)
class Talker:
    """A model, its tokenizer, and whether it is asked by the chat template."""

    model: LanguageModel
    tokenizer: Tokenizer
    chat: bool


def model_folder(path: str | Path) -> Path:
    """The model that `path` means: a build's folder stands for the last model that was made in it."""
    path = Path(path)
    if (path / "build.json").is_file():
        for stage in reversed(_models_of(path)):
            if (path / stage).is_dir():
                return path / stage
    return path


def _models_of(build: Path) -> list[str]:
    """The stages of a build that make models which speak or do a task, in the order of its recipe."""
    from parakit.recipe.post_training import speaking

    recipe = read_json(build / RECIPE) if (build / RECIPE).is_file() else {}
    methods = (step["method"] for step in recipe.get("align") or [])
    return ["pretrain", "finetune", *speaking(methods, bool(recipe.get("distill")))]


def parse_bytes(size: str) -> int:
    """`"500MB"` -> 500,000,000; decimal units, as drives are sold. `UserError` for anything else."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)b?\s*", size.lower())
    n_bytes = int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " ")) if match else 0
    if n_bytes < 1:
        raise UserError(
            f"{size!r} is no size of a file", "write a number with kB, MB or GB, for example 500MB"
        )
    return n_bytes


def load_adapters(talker: Talker, base: str, folders: Sequence[str]) -> AdapterSet:
    """The adapters of these folders beside one base, by their folders' names; the first is on."""
    from parakit.checkpoints.adapters import load_adapter
    from parakit.model.adapters import AdapterSet

    adapters, device = AdapterSet(talker.model), next(talker.model.parameters()).device
    for folder in folders:
        name = Path(folder).resolve().name
        adapters.add(name, load_adapter(folder, talker.model, model_folder(base)))
        adapters.use(name)
        talker.model.to(device)
    adapters.use(adapters.names[0])
    return adapters


def load_talker(path: str, device: str, dtype: str, prompting: str) -> Talker:
    """Load a model folder; one that writes no text, or has no tokenizer, is a `UserError`."""
    from parakit.checkpoints.model_folder import load_model
    from parakit.inference.capabilities import require_capability
    from parakit.inference.folder_settings import is_chat_tuned, warn_prefix_lm
    from parakit.model.heads import LanguageModel

    target, folder = pick_device(device), model_folder(path)
    model, tokenizer = load_model(folder, target, pick_dtype(dtype, target))
    require_capability(model, "generate")
    assert isinstance(model, LanguageModel)
    if tokenizer is None:
        raise UserError(
            f"{path}: has no tokenizer, so it cannot read or write", "put the model's tokenizer there"
        )
    warn_prefix_lm(folder)
    chat = is_chat_tuned(folder) if prompting == "auto" else prompting == "chat"
    return Talker(model, tokenizer, chat)
