"""What `generate` and `chat` share: a model folder becomes a model that can be talked to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.common.devices import pick_device, pick_dtype
from parakit.common.errors import UserError

if TYPE_CHECKING:
    from parakit.model.heads import LanguageModel
    from parakit.tokens.tokenizer import Tokenizer


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
        for stage in ("finetune", "pretrain"):
            if (path / stage).is_dir():
                return path / stage
    return path


def load_talker(path: str, device: str, dtype: str, prompting: str) -> Talker:
    """Load a model folder; one without a tokenizer, or without turn markers where chat is wanted, is a
    `UserError`.
    """
    from parakit.checkpoints.model_folder import load_model
    from parakit.inference.chat_tuned import is_chat_tuned

    target, folder = pick_device(device), model_folder(path)
    model, tokenizer = load_model(folder, target, pick_dtype(dtype, target))
    if tokenizer is None:
        raise UserError(
            f"{path}: has no tokenizer.json, so it cannot read or write", "put the model's tokenizer there"
        )
    chat = is_chat_tuned(folder) if prompting == "auto" else prompting == "chat"
    return Talker(model, tokenizer, chat)
