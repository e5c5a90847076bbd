"""Model folders: written for transformers, vLLM and llama.cpp to load, and loaded from whoever wrote them.

A folder that Parakit wrote is an artifact (lineage and manifest) and is checked byte by byte; a stranger's
has neither and is checked for shape. Nothing in a folder is executed or unpickled. Torch is imported inside
the functions: `read_config` and `parameter_counts` work without it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import qwen3
from parakit.checkpoints.folder_safety import check_folder, read_small_json, require_model_folder
from parakit.checkpoints.safetensors_io import (
    SINGLE,
    WEIGHT_DTYPES,
    TensorEntry,
    folder_tensors,
    read_tensors,
    write_tensors,
)
from parakit.common.artifacts import (
    LINEAGE,
    MANIFEST,
    Lineage,
    open_artifact,
    verify_manifest,
    writing_artifact,
)
from parakit.common.errors import DamagedArtifact, UserError
from parakit.common.files import write_json_atomic, write_text_atomic
from parakit.model.config import DecoderConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.heads import LanguageModel
    from parakit.tokens.tokenizer import Tokenizer

TRAINING_LOGS = "training"
ARCHITECTURES: dict[str, ModuleType] = {qwen3.MODEL_TYPE: qwen3}


def save_model(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    path: str | Path,
    lineage: Lineage,
    overwrite: bool = False,
    dtype: torch.dtype | str | None = None,
    *,
    card: str | None = None,
    logs: Iterable[Path] = (),
) -> Path:
    """Write `model` as an artifact of kind "model" in the Hugging Face layout; `dtype` None keeps the model's
    own, `card` becomes README.md, and `logs` (files and folders) are kept in `training/`.

    Raises `UserError` when `path` exists (unless `overwrite`) or when the tokenizer has ids that the
    embedding has no row for.
    """
    config = model.config
    _check_tokenizer(tokenizer, config, path)
    state = model.state_dict()
    target = _torch_dtype(dtype) or state[next(qwen3.named_tensors(config)).ours].dtype
    foreign = qwen3.write_settings(config, str(target).removeprefix("torch.")) | _special_ids(tokenizer)
    with writing_artifact(path, lineage, overwrite) as folder:
        if tokenizer is not None:
            tokenizer.save(folder)
        write_json_atomic(folder / "config.json", foreign)
        write_json_atomic(
            folder / "generation_config.json", {**_special_ids(tokenizer), **_stop_ids(tokenizer)}
        )
        for log in logs:
            copy = shutil.copytree if log.is_dir() else shutil.copy
            (folder / TRAINING_LOGS).mkdir(exist_ok=True)
            copy(log, folder / TRAINING_LOGS / log.name)
        if card is not None:
            write_text_atomic(folder / "README.md", card)
        write_tensors(
            {t.theirs: state[t.ours].to(target) for t in qwen3.named_tensors(config)}, folder / SINGLE
        )
    return Path(path)


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
) -> tuple[LanguageModel, Tokenizer | None]:
    """Load a model, in evaluation mode, and its tokenizer when the folder has one; `dtype` None keeps the one
    that is stored.

    Raises `UserError` saying what the folder is when it is no model, or naming the key, tensor or file that
    stands in the way; `DamagedArtifact` naming the file whose bytes changed. `verify=False` skips the sha256
    sums.
    """
    import torch

    folder = _open(path, verify)
    architecture, config = _config(folder)
    entries = _checked_entries(folder, architecture, config)
    tokenizer = _load_tokenizer(folder)
    _check_tokenizer(tokenizer, config, folder)
    target = _torch_dtype(dtype) or _stored_dtype(entries.values())
    model = _empty_model(config, torch.device(device), target)
    _fill(model, architecture, entries, folder)
    return model.eval(), tokenizer


def read_config(path: str | Path) -> DecoderConfig:
    """The architecture of a model folder, without touching its weights."""
    return _config(require_model_folder(path))[1]


def parameter_counts(path: str | Path) -> dict[str, int]:
    """Parameters by part, from a model folder's settings, after checking that the weights on disk have
    exactly those shapes. Builds nothing.
    """
    folder = require_model_folder(path)
    architecture, config = _config(folder)
    _checked_entries(folder, architecture, config)
    return config.n_params()


def _open(path: str | Path, verify: bool) -> Path:
    """Refuse what is no model folder, what is dangerous, and what is damaged."""
    folder = require_model_folder(path)
    check_folder(folder)
    if (folder / LINEAGE).is_file():
        open_artifact(folder, kind="model", verify=verify and (folder / MANIFEST).is_file())
    elif verify and (folder / MANIFEST).is_file():
        verify_manifest(folder)
    return folder


def _config(folder: Path) -> tuple[ModuleType, DecoderConfig]:
    foreign = read_small_json(folder / "config.json")
    kind = foreign.get("model_type")
    architecture = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        raise UserError(
            f"{folder / 'config.json'}: holds a model of type {kind!r}",
            f"Parakit loads: {', '.join(ARCHITECTURES)}",
        )
    return architecture, architecture.read_settings(foreign, folder / "config.json")


def _checked_entries(folder: Path, architecture: ModuleType, config: DecoderConfig) -> dict[str, TensorEntry]:
    """The tensors on disk, one for every parameter that the settings ask for, each of its shape and a dtype
    that weights can have.
    """
    entries = folder_tensors(folder)
    found = dict(entries)
    if config.n_layers > len(entries):  # before names are made up for a billion layers
        raise UserError(
            f"{folder}: config.json says {config.n_layers} layers, and the weights hold {len(entries)} "
            f"tensors",
            "fetch the folder again",
        )
    for tensor in architecture.named_tensors(config):
        entry = found.pop(tensor.theirs, None)
        if entry is None:
            raise UserError(
                f"{folder}: the weights lack the tensor {tensor.theirs!r}",
                "the model folder is not complete: fetch it again",
            )
        if entry.shape != tensor.shape:
            raise UserError(
                f"{entry.file}: tensor {tensor.theirs!r} has shape {entry.shape}, config.json asks for "
                f"{tensor.shape}",
                "they belong to different models",
            )
        if entry.dtype not in WEIGHT_DTYPES:
            raise UserError(
                f"{entry.file}: tensor {tensor.theirs!r} has dtype {entry.dtype}",
                f"weights of these dtypes are loaded: {', '.join(WEIGHT_DTYPES)}",
            )
    for name in found:
        if not (
            architecture.is_ignorable(name) or (config.tie_embeddings and name == architecture.TIED_COPY[0])
        ):
            raise UserError(
                f"{found[name].file}: holds a tensor {name!r} that {architecture.ARCHITECTURE} has no place "
                f"for",
                "it belongs to another model",
            )
    return entries


def _empty_model(config: DecoderConfig, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A model with unset weights: nothing is drawn at random to be thrown away.

    The meta device would do the same, and import torch's compiler (seconds) as soon as an initialiser runs on
    it.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    from parakit.model.heads import LanguageModel

    class SkipInitialisers(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device(device), SkipInitialisers():
        model = LanguageModel(config)
    for parameter in model.parameters():  # not model.to(dtype), which would round the tables of positions
        parameter.data = torch.empty_like(parameter, dtype=dtype)
    return model


def _fill(
    model: LanguageModel, architecture: ModuleType, entries: dict[str, TensorEntry], folder: Path
) -> None:
    import torch

    parameters = dict(model.named_parameters())
    ours = {t.theirs: t.ours for t in architecture.named_tensors(model.config)}
    copy, original = architecture.TIED_COPY
    with torch.no_grad():
        for name, tensor in read_tensors({name: entry for name, entry in entries.items() if name in ours}):
            parameters[ours[name]].copy_(tensor)
    if model.config.tie_embeddings and copy in entries:
        (_, first), (_, second) = read_tensors({name: entries[name] for name in (copy, original)})
        if not torch.equal(first, second):
            raise DamagedArtifact(
                f"{folder}: config.json says the output matrix is tied to the embedding, and {copy!r} holds "
                f"other values",
                "set tie_word_embeddings to false if the model was trained untied",
            )


def _load_tokenizer(folder: Path) -> Tokenizer | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    from parakit.tokens.tokenizer import Tokenizer

    return Tokenizer.load(folder)


def _check_tokenizer(tokenizer: Tokenizer | None, config: DecoderConfig, where: str | Path) -> None:
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


def _stop_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """What ends a completion: the end of the text, and the end of a turn where the tokenizer has one."""
    if tokenizer is None:
        return {}
    stops = [
        token_id for token_id in (tokenizer.eos_id, tokenizer.turn_ids.get("end")) if token_id is not None
    ]
    return {"eos_token_id": stops} if stops else {}


def _torch_dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    import torch

    if name is None or isinstance(name, torch.dtype):
        return name
    if name not in WEIGHT_DTYPES.values():
        raise UserError(
            f"dtype {name!r} is none that weights are kept in",
            f"use one of: {', '.join(WEIGHT_DTYPES.values())}",
        )
    return getattr(torch, name)


def _stored_dtype(entries: Iterable[TensorEntry]) -> torch.dtype:
    """The dtype in which every stored weight keeps its value: theirs when they agree, else the narrowest that
    holds all.
    """
    import torch

    dtype = None
    for entry in entries:
        if entry.dtype in WEIGHT_DTYPES:
            stored = getattr(torch, WEIGHT_DTYPES[entry.dtype])
            dtype = stored if dtype is None else torch.promote_types(dtype, stored)
    assert dtype is not None
    return dtype
