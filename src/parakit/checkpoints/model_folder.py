"""Folders of full models in the Hugging Face layout: saved for transformers to load, and loaded, whatever their origin.

A folder that Parakit wrote is an artifact (lineage and manifest), whose bytes are verified; a third-party folder has
neither, and its tensors are checked against its settings. Nothing in a folder is executed or unpickled. Folders of
adapters are loaded by `loading.py`. Torch is imported inside functions: reading settings works without it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import registry, weights
from parakit.checkpoints.folder_safety import check_folder_safety, read_small_json, require_model_folder
from parakit.checkpoints.generation_settings import GENERATION
from parakit.checkpoints.hf_config import UnknownKeys
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.pooling_files import read_pooling, write_pooling
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, folder_tensors, write_weight_shards
from parakit.common.artifacts import (
    LINEAGE,
    MANIFEST,
    Lineage,
    open_artifact,
    verify_manifest,
    writing_artifact,
)
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.model.config import EmbedderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import TransformerModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

TRAINING_LOGS = "training"
MAX_SHARD_BYTES = 5_000_000_000


def save_model(
    model: TransformerModel,
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
    """Write `model` as an artifact of kind "model" in the Hugging Face layout.

    `dtype` None keeps each parameter's own. `card` becomes README.md; `logs` (files and folders) are copied into
    `training/`. Weights of more than `max_shard_bytes` are split into several files with an index. `sampling`: a
    publisher's settings for `generation_config.json`.

    Raises `UserError` when `path` exists (unless `overwrite`), when the tokenizer has ids without a row in the
    embedding, or when no published architecture computes such a model.
    """
    config, head = model.config, head_of(model)
    _check_not_adapted(model, path)
    _check_tokenizer(tokenizer, config, path)
    architecture = registry.architecture_for(config, head)
    target = _torch_dtype(dtype)
    counts: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        counts[target or parameter.dtype] += parameter.numel()
    settings = architecture.write_settings(config)
    hf_config = {
        "architectures": [registry.class_name(architecture, head)],
        **settings,
        **registry.write_labels(architecture, head),
        **dict.fromkeys(("dtype", "torch_dtype"), str(counts.most_common(1)[0][0]).removeprefix("torch.")),
        **_special_ids(tokenizer),
    }
    if settings.get("pad_token_id") is not None:  # positions are counted from it (RoBERTa)
        hf_config["pad_token_id"] = settings["pad_token_id"]
    with writing_artifact(path, lineage, overwrite) as folder:
        if tokenizer is not None:
            from parakit.tokens.tokenizer.special_tokens_template import with_special_tokens_template

            two_types = isinstance(config, EncoderConfig) and config.n_token_types > 1
            with_special_tokens_template(tokenizer, config.family).save(folder, token_types=two_types)
        write_json_atomic(folder / "config.json", hf_config)
        if head.kind in ("language_model", "sequence_to_sequence"):
            write_json_atomic(folder / GENERATION, _generation(config, tokenizer) | dict(sampling or {}))
        if head.pooling is not None:
            write_pooling(folder, head.pooling, config.d_output)
        write_logs_and_card(folder, logs, card)
        write_weight_shards(
            weights.export_tensors(model, architecture, head, target), folder, max_shard_bytes
        )
    return Path(path)


def write_logs_and_card(folder: Path, logs: Iterable[Path], card: str | None) -> None:
    """Copy `logs` (files and folders) into `training/`, and write `card` as README.md where there is one."""
    for log in logs:
        copy = shutil.copytree if log.is_dir() else shutil.copy
        (folder / TRAINING_LOGS).mkdir(exist_ok=True)
        copy(log, folder / TRAINING_LOGS / log.name)
    if card is not None:
        write_text_atomic(folder / "README.md", card)


def load_full_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
    accept_config: Iterable[str] = (),
) -> tuple[TransformerModel, Tokenizer | None]:
    """As `loading.load_model`, for the folder of a full model only; `accept_config` as for `read_settings`."""
    import torch

    folder = require_model_folder(path)
    check_artifact(folder, "model", verify)
    architecture, config, head = read_settings(folder, accept_config)
    entries = weights.match_tensors(folder, architecture, config, head)
    tokenizer = _load_tokenizer(folder)
    _check_tokenizer(tokenizer, config, folder)
    target = _torch_dtype(dtype) or weights.stored_dtype(entries.values())
    model = weights.empty_model(config, head, torch.device(device), target)
    weights.load_into(model, architecture, head, entries, folder)
    return model.eval(), tokenizer


def check_artifact(folder: Path, kind: str, verify: bool) -> None:
    """Refuse a folder that is dangerous, is an artifact of another kind, or (with `verify`) was changed."""
    check_folder_safety(folder)
    verify = verify and (folder / MANIFEST).is_file()
    if (folder / LINEAGE).is_file():
        open_artifact(folder, kind=kind, verify=verify)
    elif verify:
        verify_manifest(folder)


def read_settings(folder: Path, accept_config: Iterable[str] = ()) -> tuple[Architecture, ModelConfig, Head]:
    """Architecture, config and head of the folder of a full model. `accept_config`: keys of config.json that Parakit does
    not know and that are left out of account.
    """
    where = folder / "config.json"
    hf_config = without_accepted(read_small_json(where), accept_config, where)
    architecture, head = registry.architecture_of(hf_config, where)
    config = architecture.read_settings(hf_config, where)
    if hasattr(architecture, "finalize"):
        config = registry.finalize(architecture, config, folder_tensors(folder).keys())
    if head.kind == "embedder":
        default = EmbedderConfig(pooling="last" if config.family == "decoder" else "mean")
        head = replace(head, pooling=read_pooling(folder, default))
    return architecture, config, head


def without_accepted(hf_config: JsonObject, accept_config: Iterable[str], where: Path) -> JsonObject:
    """`hf_config` without the keys that the user accepts; `UserError` for one that Parakit reads, or that is absent."""
    accepted = set(accept_config)
    if not accepted:
        return hf_config
    architecture, _ = registry.architecture_of(hf_config, where)
    unknown: tuple[str, ...] = ()
    try:
        architecture.read_settings(hf_config, where)
    except UnknownKeys as error:
        unknown = error.keys
    if wrong := sorted(accepted - set(unknown)):
        raise UserError(
            f"--accept-config {' '.join(wrong)}: {where} has no such unknown key",
            f"its unknown keys: {', '.join(unknown) or 'none'}; a key that Parakit reads cannot be left out",
        )
    return {key: value for key, value in hf_config.items() if key not in accepted}


def head_of(model: TransformerModel) -> Head:
    """The description of a model's head."""
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


def _check_not_adapted(model: TransformerModel, path: str | Path) -> None:
    from parakit.model.adapters import is_adapted

    if is_adapted(model):
        raise UserError(
            f"{path}: the model has an adapter on, and a model folder holds plain weights",
            "merge it into its base first: parakit merge ADAPTER --output FOLDER",
        )


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


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, int | None]:
    """Token ids that inference engines read from config.json; empty without a tokenizer."""
    if tokenizer is None:
        return {}
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def _generation(config: ModelConfig, tokenizer: Tokenizer | None) -> JsonObject:
    """The ids that begin a text, and those that end a completion: the end of the text, and the end of a turn where the
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
            f"dtype {name!r} is not supported for weights",
            f"use one of: {', '.join(WEIGHT_DTYPES.values())}",
        )
    dtype: torch.dtype = getattr(torch, name)
    return dtype
