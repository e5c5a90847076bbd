"""Load a model, or read its settings, from its own folder or from the folder of an adapter on it.

Torch is imported inside functions: `read_config`, `read_head` and `parameter_counts` work without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parakit.checkpoints import weights
from parakit.checkpoints.adapters.base_model import base_folder, is_adapter_folder
from parakit.checkpoints.adapters.folder import load_with_adapter, read_adapted_head
from parakit.checkpoints.folder_safety import require_model_folder
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.model_folder import load_full_model, match_folder, read_settings
from parakit.model.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import TransformerModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
) -> tuple[TransformerModel, Tokenizer | None]:
    """Load a model with the head that it was saved with, in evaluation mode, and its tokenizer where the folder has
    one. The folder of an adapter loads its base with the adapter attached.

    `dtype` None keeps the stored one, or the narrowest that holds all where they differ. `verify=False` skips the
    sha256 sums. Raises `UserError` saying what the folder is when it is no model, or naming the unsupported key,
    tensor or file; `CorruptArtifact` naming a file whose bytes changed.
    """
    load = load_with_adapter if is_adapter_folder(path) else load_full_model
    return load(path, device, dtype, verify)


def read_config(path: str | Path) -> ModelConfig:
    """The config of a model, without reading its weights; of an adapter's folder, that of its base."""
    return read_settings(_model_folder(path))[1]


def read_head(path: str | Path) -> Head:
    """Which head a model has, and its labels or its pooling."""
    if is_adapter_folder(path):
        return read_adapted_head(Path(path))
    return read_settings(require_model_folder(path))[2]


def parameter_counts(path: str | Path) -> dict[str, int]:
    """Parameters by part, from a model folder's settings, after checking that the weights on disk have exactly those
    shapes. Builds no model.
    """
    folder = _model_folder(path)
    architecture, config, head = read_settings(folder)
    match_folder(folder, architecture, config, head)
    if head.kind in ("language_model", "masked_language_model", "sequence_to_sequence"):
        return config.n_params()
    total = sum(weights.tensor_sizes(config, architecture, head).values())
    total += head.pooling.n_dense_params(config.d_output) if head.pooling else 0
    parts = {name: n for name, n in config.n_params().items() if name not in ("lm_head", "total")}
    return parts | {head.kind: total - sum(parts.values()), "total": total}


def _model_folder(path: str | Path) -> Path:
    """The folder of a full model; for an adapter's folder that of its base."""
    return require_model_folder(base_folder(path) if is_adapter_folder(path) else path)
