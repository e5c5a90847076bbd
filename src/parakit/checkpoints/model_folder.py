"""Folders of full models in the Hugging Face layout: saved for transformers to load, and loaded, whatever their origin.

A folder that Parakit wrote is an artifact (lineage and manifest), whose bytes are verified; a third-party folder has
neither, and its tensors are checked against its settings. Nothing in a folder is executed or unpickled. Folders of
adapters are loaded by `loading.py`. Torch is imported inside functions: reading settings works without it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from parakit.checkpoints import publisher, registry, weights
from parakit.checkpoints.compressed_tensors.export import saved_quantization
from parakit.checkpoints.compressed_tensors.settings import (
    KEY,
    SchemeGroup,
    read_groups,
    without_quantization,
)
from parakit.checkpoints.folder_safety import check_folder_safety, read_small_json, require_model_folder
from parakit.checkpoints.generation_settings import GENERATION
from parakit.checkpoints.hf_config import UnknownKeys
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.multimodal import language_model_config
from parakit.checkpoints.safetensors_io import WEIGHT_DTYPES, folder_tensors, write_weight_shards
from parakit.checkpoints.sentence_encoders.dense_files import read_dense_layers, write_dense_layers
from parakit.checkpoints.sentence_encoders.pooling_files import (
    PROMPTS,
    names_embedder,
    read_pooling,
    with_activation,
    write_sentence_files,
)
from parakit.checkpoints.sharded.streamed_tensors import TensorShape, stored_name, stream_weight_shards
from parakit.checkpoints.sharded.tensor_parts import is_in_parts
from parakit.common.artifacts import (
    LINEAGE,
    MANIFEST,
    Lineage,
    open_artifact,
    verified_meanwhile,
    writing_artifact,
)
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.model.config import EmbedderConfig, EncoderConfig, ModelConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import Embedder, TransformerModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

TRAINING_LOGS = "training"
# sentence-transformers reads every text through a chat template where the folder has one
_READ_NO_CONVERSATIONS = ("masked_language_model", "classifier", "embedder")
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
) -> Path:
    """Write `model` as an artifact of kind "model" in the Hugging Face layout.

    `dtype` None keeps each parameter's own. `card` becomes README.md; `logs` (files and folders) are copied into
    `training/`. Weights of more than `max_shard_bytes` are split into several files with an index. What the
    publisher of a loaded model set, beyond its shape and weights, is written as it was: see `publisher`.

    The weights of a model in parts are gathered and written one tensor at a time, while the other processes call
    `take_part_in_saving`.

    Raises `UserError` when `path` exists (unless `overwrite`), when the tokenizer has ids without a row in the
    embedding, or when no published architecture computes such a model.
    """
    config, head = model.config, head_of(model)
    _check_not_adapted(model, path)
    _check_tokenizer(tokenizer, config, path)
    came_with = publisher.publisher_of(model)
    architecture = publisher.choose_architecture(config, head, came_with)
    quantization = saved_quantization(model, architecture, head)
    target = _torch_dtype(dtype)
    written = publisher.config_json(architecture, config, head, _stored_dtype(model, target), tokenizer)
    with writing_artifact(path, lineage, overwrite) as folder:
        if tokenizer is not None:
            from parakit.tokens.tokenizer.special_tokens_template import with_special_tokens_template

            two_types = isinstance(config, EncoderConfig) and config.n_token_types > 1
            with_special_tokens_template(tokenizer, config.family).save(
                folder,
                token_types=two_types,
                pad_with_eos=publisher.pads_rows(config, head),
                own_chat_template=head.kind not in _READ_NO_CONVERSATIONS,
            )
        write_json_atomic(
            folder / "config.json",
            publisher.saved_config(came_with, written, architecture, config, head)
            | ({} if quantization is None else {KEY: quantization}),
        )
        if head.kind in ("language_model", "sequence_to_sequence"):
            generation = publisher.generation_json(config, tokenizer)
            write_json_atomic(folder / GENERATION, publisher.saved_generation(came_with, generation))
        published, unchanged = publisher.sentence_files(came_with, head)
        write_sentence_files(folder, head.pooling, config.d_output, published, unchanged)
        if head.pooling is not None:
            write_dense_layers(cast("Embedder", model), folder, target)
        write_logs_and_card(folder, logs, card)
        _write_weights(model, architecture, head, target, folder, max_shard_bytes)
    return Path(path)


def _write_weights(
    model: TransformerModel,
    architecture: Architecture,
    head: Head,
    target: torch.dtype | None,
    folder: Path,
    max_shard_bytes: int,
) -> None:
    """The weights, and what the publisher's folder had next to them; those in parts gathered one at a time."""
    tensors = weights.export_tensors(model, architecture, head, target)
    names = (tensor.hf_name for tensor in architecture.hf_tensors(model.config, head))
    kept = publisher.kept_tensors(publisher.publisher_of(model), architecture, head, names, target)
    every = chain(tensors, kept.items())
    if not any(map(is_in_parts, model.parameters())):
        write_weight_shards(every, folder, max_shard_bytes)
        return
    shapes = weights.export_shapes(model, architecture, head, target)
    shapes += [TensorShape(name, tuple(t.shape), stored_name(t.dtype)) for name, t in kept.items()]
    stream_weight_shards(shapes, every, folder, max_shard_bytes)


def take_part_in_saving(model: TransformerModel) -> None:
    """Give the first process, which calls `save_model`, the parts that this one holds."""
    head = head_of(model)
    architecture = publisher.choose_architecture(model.config, head, publisher.publisher_of(model))
    for _ in weights.export_tensors(model, architecture, head, None):
        pass


def _stored_dtype(model: TransformerModel, target: torch.dtype | None) -> str:
    """The dtype of most parameters in the file."""
    sizes = Counter({parameter.dtype: 0 for parameter in model.parameters()})
    for parameter in model.parameters():
        sizes[target or parameter.dtype] += parameter.numel()
    return str(sizes.most_common(1)[0][0]).removeprefix("torch.")


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
    """As `loading.load_model`, for the folder of a full model only; `accept_config` as for `read_settings`. On the device
    meta the weights are read when `fill_pending` is called, and only the parts that this process holds by then.
    """
    import torch

    folder = require_model_folder(path)
    accept_config = tuple(accept_config)
    has_sums = check_artifact(folder, "model", verify, accept_config)
    with verified_meanwhile(folder) if has_sums else contextlib.nullcontext():
        return _read_full_model(folder, torch.device(device), _torch_dtype(dtype), accept_config)


def _read_full_model(
    folder: Path, device: torch.device, dtype: torch.dtype | None, accept_config: tuple[str, ...]
) -> tuple[TransformerModel, Tokenizer | None]:
    from parakit.checkpoints.sharded.empty_weights import set_pending

    architecture, config, head = read_settings(folder, accept_config)
    stored = match_folder(folder, architecture, config, head)
    tokenizer = _load_tokenizer(folder)
    _check_tokenizer(tokenizer, config, folder)
    target = dtype or weights.stored_dtype(stored.plain())
    model = weights.empty_model(config, head, device, target, stored.plan())
    if device.type == "meta":
        set_pending(model, partial(weights.load_into, model, architecture, head, stored, folder))
    else:
        weights.load_into(model, architecture, head, stored, folder)
    if head.pooling is not None:
        read_dense_layers(cast("Embedder", model), folder)
    hf_config = without_accepted(_read_config(folder), accept_config, folder / "config.json")
    generation = read_small_json(folder / GENERATION) if (folder / GENERATION).is_file() else {}
    commonest = weights.commonest_dtype(stored.plain())
    came_with = publisher.read_publisher(
        folder, hf_config, generation, architecture, config, head, dtype=commonest, tokenizer=tokenizer
    )
    publisher.set_publisher(model, came_with)
    return model.eval(), tokenizer


def check_artifact(folder: Path, kind: str, verify: bool, accept_config: Collection[str] = ()) -> bool:
    """Refuse a folder that is dangerous, is an artifact of another kind, or (with `verify`) lacks its sums; whether its files
    are to be compared with them.
    """
    check_folder_safety(folder, accept_config)
    has_manifest = (folder / MANIFEST).is_file()
    if (folder / LINEAGE).is_file():
        if verify and not has_manifest:
            raise CorruptArtifact(
                f"{folder / MANIFEST}: is missing, so the files of this {kind} cannot be verified",
                f"restore it from a copy; or delete {LINEAGE} there too: the folder is then read as a third-party"
                f" {kind}, as it is",
            )
        open_artifact(folder, kind=kind, verify=False)
    return verify and has_manifest


def read_settings(folder: Path, accept_config: Iterable[str] = ()) -> tuple[Architecture, ModelConfig, Head]:
    """Architecture, config and head of the folder of a full model. `accept_config`: keys of config.json that Parakit does
    not know and that are left out of account.
    """
    where = folder / "config.json"
    hf_config = without_accepted(_read_config(folder), accept_config, where)
    if names_embedder(folder):
        hf_config = registry.as_embedder(hf_config, where)
    elif (folder / PROMPTS).is_file():
        hf_config = with_activation(hf_config, read_small_json(folder / PROMPTS))
    architecture, head = registry.architecture_of(hf_config, where)
    config = architecture.read_settings(hf_config, where)
    if hasattr(architecture, "finalize"):
        config = registry.finalize(architecture, config, folder_tensors(folder).keys())
    if head.kind == "embedder":
        default = EmbedderConfig(pooling="last" if config.family == "decoder" else "mean")
        head = replace(head, pooling=read_pooling(folder, default, config))
    return architecture, config, head


def match_folder(
    folder: Path, architecture: Architecture, config: ModelConfig, head: Head
) -> weights.StoredTensors:
    """The tensors of a folder, checked against its settings, those of its quantized weights too."""
    unused = unused_tensors(folder, architecture, config)
    return weights.match_tensors(folder, architecture, config, head, unused, read_schemes(folder))


def require_plain_weights(path: str | Path, what: str) -> None:
    """`UserError` for a model with quantized weights, which are frozen, where `what` ("pre-training") trains them all."""
    folder = require_model_folder(path)
    if groups := read_schemes(folder):
        bits = " and ".join(sorted({f"int{group.scheme.bits}" for group in groups}))
        raise UserError(
            f"{folder}: its weights are quantized ({bits}) and cannot be trained, and {what} trains them",
            "fine-tune an adapter on it (parakit finetune --method lora), or train the model that it was quantized from",
        )


def read_schemes(folder: Path) -> tuple[SchemeGroup, ...]:
    """The schemes of quantized weights that a folder's config.json names; () where its weights are plain."""
    where = folder / "config.json"
    return read_groups(read_small_json(where), where)


def unused_tensors(folder: Path, architecture: Architecture, config: ModelConfig) -> list[str]:
    """Tensors on disk of the head that config.json names, where `modules.json` makes the model an embedder instead."""
    if not names_embedder(folder):
        return []
    others = publisher.other_heads(_read_config(folder), architecture, config)
    return sorted(others & folder_tensors(folder).keys())


def _read_config(folder: Path) -> JsonObject:
    """The config.json of a folder without its quantization; of a model that also reads images that of its language model."""
    where = folder / "config.json"
    hf_config = read_small_json(where)
    read_groups(hf_config, where)
    return language_model_config(without_quantization(hf_config), where)


def without_accepted(hf_config: JsonObject, accept_config: Iterable[str], where: Path) -> JsonObject:
    """`hf_config` without the keys that the user accepts; `UserError` for one that Parakit reads, or that is absent."""
    accepted = set(accept_config) - ({"auto_map"} & hf_config.keys())  # names code, which Parakit never runs
    if len(accepted) < len(set(accept_config)):
        hf_config = {key: value for key, value in hf_config.items() if key != "auto_map"}
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
