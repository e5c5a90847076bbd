"""Model folders: written for transformers, vLLM and llama.cpp to load, and loaded from whoever wrote them.

A folder that Parakit wrote is an artifact (lineage and manifest) and is checked byte by byte; a stranger's
has neither and is checked for shape. Nothing in a folder is executed or unpickled. Torch is imported inside
the functions: `read_config`, `read_head` and `parameter_counts` work without it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import registry, weights
from parakit.checkpoints.adapters.base_model import base_folder, is_adapter_folder
from parakit.checkpoints.folder_safety import check_folder, read_small_json, require_model_folder
from parakit.checkpoints.generation_settings import GENERATION
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.pooling_files import read_pooling, write_pooling
from parakit.checkpoints.registry import ARCHITECTURES
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, folder_tensors, write_shards
from parakit.common.artifacts import (
    LINEAGE,
    MANIFEST,
    Lineage,
    open_artifact,
    verify_manifest,
    writing_artifact,
)
from parakit.common.errors import UserError
from parakit.common.files import write_json_atomic, write_text_atomic
from parakit.model.config import EmbedderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import Model
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

__all__ = ["ARCHITECTURES", "load_model", "parameter_counts", "read_config", "read_head", "save_model"]

TRAINING_LOGS = "training"
MAX_SHARD_BYTES = 5_000_000_000


def save_model(
    model: Model,
    tokenizer: Tokenizer | None,
    path: str | Path,
    lineage: Lineage,
    overwrite: bool = False,
    dtype: torch.dtype | str | None = None,
    *,
    card: str | None = None,
    logs: Iterable[Path] = (),
    max_shard_bytes: int = MAX_SHARD_BYTES,
    sampling: Mapping[str, Any] | None = None,
) -> Path:
    """Write `model` as an artifact of kind "model" in the Hugging Face layout; `dtype` None keeps each
    parameter's own, `card` becomes README.md, and `logs` (files and folders) are kept in `training/`. Weights of
    more than `max_shard_bytes` are cut into several files with an index. `sampling`: a publisher's wishes, which go into
    `generation_config.json`.

    Raises `UserError` when `path` exists (unless `overwrite`), when the tokenizer has ids that the embedding has
    no row for, or when no published architecture computes such a model.
    """
    config, head = model.config, head_of(model)
    _check_plain(model, path)
    _check_tokenizer(tokenizer, config, path)
    architecture = registry.architecture_for(config, head)
    target = _torch_dtype(dtype)
    counts: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        counts[target or parameter.dtype] += parameter.numel()
    foreign = {
        "architectures": [registry.class_name(architecture, head)],
        **architecture.write_settings(config),
        **registry.write_labels(architecture, head),
        **dict.fromkeys(("dtype", "torch_dtype"), str(counts.most_common(1)[0][0]).removeprefix("torch.")),
        **_special_ids(tokenizer),
    }
    with writing_artifact(path, lineage, overwrite) as folder:
        if tokenizer is not None:
            from parakit.tokens.tokenizer.special_tokens_template import with_special_tokens_template

            two_types = isinstance(config, EncoderConfig) and config.n_token_types > 1
            with_special_tokens_template(tokenizer, config.family).save(folder, token_types=two_types)
        write_json_atomic(folder / "config.json", foreign)
        if head.kind in ("language_model", "sequence_to_sequence"):
            write_json_atomic(folder / GENERATION, _generation(config, tokenizer) | dict(sampling or {}))
        if head.pooling is not None:
            write_pooling(folder, head.pooling, config.d_model)
        for log in logs:
            copy = shutil.copytree if log.is_dir() else shutil.copy
            (folder / TRAINING_LOGS).mkdir(exist_ok=True)
            copy(log, folder / TRAINING_LOGS / log.name)
        if card is not None:
            write_text_atomic(folder / "README.md", card)
        write_shards(weights.gathered(model, architecture, head, target), folder, max_shard_bytes)
    return Path(path)


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
) -> tuple[Model, Tokenizer | None]:
    """Load a model with the head that it was saved with, in evaluation mode, and its tokenizer when the folder
    has one; `dtype` None keeps the one that is stored, or the narrowest that holds all where they differ.

    Raises `UserError` saying what the folder is when it is no model, or naming the key, tensor or file that
    stands in the way; `CorruptArtifact` naming the file whose bytes changed. `verify=False` skips the sha256
    sums. The folder of an adapter stands for its base with the adapter on.
    """
    import torch

    if is_adapter_folder(path):
        from parakit.checkpoints.adapters.folder import load_with_adapter

        return load_with_adapter(path, device, dtype, verify)
    folder = _open(path, verify)
    architecture, config, head = _read(folder)
    entries = weights.checked_entries(folder, architecture, config, head)
    tokenizer = _load_tokenizer(folder)
    _check_tokenizer(tokenizer, config, folder)
    target = _torch_dtype(dtype) or weights.stored_dtype(entries.values())
    model = weights.empty_model(config, head, torch.device(device), target)
    weights.fill(model, architecture, head, entries, folder)
    return model.eval(), tokenizer


def read_config(path: str | Path) -> ModelConfig:
    """The architecture of a model folder, without touching its weights."""
    return _read(_plain_folder(path))[1]


def read_head(path: str | Path) -> Head:
    """Which head a model folder has, and its labels or its pooling."""
    if is_adapter_folder(path):
        from parakit.checkpoints.adapters.folder import read_adapted_head

        return read_adapted_head(Path(path))
    return _read(require_model_folder(path))[2]


def parameter_counts(path: str | Path) -> dict[str, int]:
    """Parameters by part, from a model folder's settings, after checking that the weights on disk have
    exactly those shapes. Builds nothing.
    """
    folder = _plain_folder(path)
    architecture, config, head = _read(folder)
    weights.checked_entries(folder, architecture, config, head)
    if head.kind in ("language_model", "masked_language_model", "sequence_to_sequence"):
        return config.n_params()
    named = weights.sizes(config, architecture, head)
    parts = {name: n for name, n in config.n_params().items() if name not in ("lm_head", "total")}
    return parts | {head.kind: sum(named.values()) - sum(parts.values()), "total": sum(named.values())}


def head_of(model: Model) -> Head:
    """The record of a built model's head."""
    from parakit.model import heads

    if isinstance(model, heads.Classifier):
        return Head("classifier", model.classes)
    if isinstance(model, heads.Embedder):
        return Head("embedder", pooling=model.pooling)
    if isinstance(model, heads.RewardModel):
        return Head("reward_model")
    if isinstance(model, heads.MaskedLanguageModel):
        return Head("masked_language_model")
    if isinstance(model, heads.SequenceToSequence):
        return Head("sequence_to_sequence")
    return Head("language_model")


def _plain_folder(path: str | Path) -> Path:
    """The folder of a model; of an adapter that of its base."""
    return require_model_folder(base_folder(path) if is_adapter_folder(path) else path)


def _check_plain(model: Model, path: str | Path) -> None:
    from parakit.model.adapters import is_adapted

    if is_adapted(model):
        raise UserError(
            f"{path}: the model has an adapter on, and a model folder holds plain weights",
            "merge it into its base first: parakit merge ADAPTER --output FOLDER",
        )


def _open(path: str | Path, verify: bool) -> Path:
    """Refuse what is no model folder, what is dangerous, and what is damaged."""
    folder = require_model_folder(path)
    check_folder(folder)
    if (folder / LINEAGE).is_file():
        open_artifact(folder, kind="model", verify=verify and (folder / MANIFEST).is_file())
    elif verify and (folder / MANIFEST).is_file():
        verify_manifest(folder)
    return folder


def _read(folder: Path) -> tuple[Architecture, ModelConfig, Head]:
    where = folder / "config.json"
    foreign = read_small_json(where)
    architecture, head = registry.architecture_of(foreign, where)
    config = architecture.read_settings(foreign, where)
    if hasattr(architecture, "settled"):
        config = registry.settled(architecture, config, folder_tensors(folder).keys())
    if head.kind == "embedder":
        default = EmbedderConfig(pooling="last" if config.family == "decoder" else "mean")
        head = replace(head, pooling=read_pooling(folder, default))
    return architecture, config, head


def _load_tokenizer(folder: Path) -> Tokenizer | None:
    from parakit.tokens.tokenizer.files import has_tokenizer
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    return Tokenizer.load(folder) if has_tokenizer(folder) else None


def _check_tokenizer(tokenizer: Tokenizer | None, config: ModelConfig, where: str | Path) -> None:
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, and the model's embedding "
            f"{config.vocab_size} rows",
            "they belong to different models: take the tokenizer that the model was trained with",
        )


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Ids that engines look for in config.json. Absent where there is no tokenizer to say them."""
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def _generation(config: ModelConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """What begins a text, and what ends a completion: the end of the text, and the end of a turn where the
    tokenizer has one.
    """
    start = (
        {"decoder_start_token_id": config.decoder_start_id}
        if isinstance(config, EncoderDecoderConfig)
        else {}
    )
    if tokenizer is None:
        return start
    stops = [
        token_id for token_id in (tokenizer.eos_id, tokenizer.turn_ids.get("end")) if token_id is not None
    ]
    return {**_special_ids(tokenizer), **start, **({"eos_token_id": stops} if stops else {})}


def _torch_dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    import torch

    if name is None or isinstance(name, torch.dtype):
        return name
    if name not in WEIGHT_DTYPES.values():
        raise UserError(
            f"dtype {name!r} is none that weights are kept in",
            f"use one of: {', '.join(WEIGHT_DTYPES.values())}",
        )
    found: torch.dtype = getattr(torch, name)
    return found
