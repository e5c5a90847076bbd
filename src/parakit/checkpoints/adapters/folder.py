"""Adapter folders: peft's `adapter_config.json` and `adapter_model.safetensors`, and Parakit's lineage, which records the
base model.

Nothing is unpickled; an adapter for another base is refused. A classifier's new head is part of the adapter: its weights
in the tensors, its labels in the lineage. Modules that need torch are imported inside functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints.adapters.base_model import (
    CONFIG,
    WEIGHTS,
    base_fingerprint,
    base_folder,
    check_adapter_base,
    is_adapter_folder,
)
from parakit.checkpoints.adapters.module_names import ModuleNames
from parakit.checkpoints.adapters.peft_config import peft_lora_config, read_peft_config, virtual_tokens_config
from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.model_folder import (
    check_artifact,
    head_of,
    load_full_model,
    read_settings,
    write_logs_and_card,
)
from parakit.checkpoints.publisher import carry_publisher, choose_architecture, publisher_of
from parakit.checkpoints.safetensors_io import read_header, read_tensors, write_tensors
from parakit.checkpoints.weights import DENSE_LAYERS, empty_model
from parakit.common.artifacts import LINEAGE, Lineage, verify_manifest, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.adapters.attachment import Adapter
    from parakit.model.heads import TransformerModel
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

PROMPT = "prompt_embeddings"


def save_adapter(
    model: TransformerModel,
    adapter: Adapter,
    base: str | Path,
    path: str | Path,
    lineage: Lineage,
    overwrite: bool = False,
    *,
    card: str | None = None,
    logs: Iterable[Path] = (),
) -> Path:
    """Write an adapter of `model`, whose base is the folder `base`, as an artifact of kind "adapter". It refers to the
    base by its path relative to the adapter's folder, so both can be moved together.
    """
    base, path, head = Path(base), Path(path), head_of(model)
    relative = os.path.relpath(base.resolve(), path.resolve())
    write = _virtual_tokens if _is_prefix(adapter) else _lora
    config, tensors = write(model, adapter, head, relative)
    record: JsonObject = {
        "base": {**base_fingerprint(base), "path": relative},
        "adapter": adapter.config and adapter.config.model_dump(mode="json"),
    }
    if head.classes is not None or head.pooling is not None:
        record["head"] = {
            "classes": head.classes and head.classes.model_dump(mode="json"),
            "pooling": head.pooling and head.pooling.model_dump(mode="json"),
        }
    lineage.config = {**lineage.config, **record}
    with writing_artifact(path, lineage, overwrite) as folder:
        write_json_atomic(folder / CONFIG, config)
        write_tensors(tensors, folder / WEIGHTS)
        write_logs_and_card(folder, logs, card)
    return path


def check_adapter_can_be_saved(model: TransformerModel, adapter: Adapter) -> None:
    """Raise the `UserError` of `save_adapter` before training instead of after it."""
    if not _is_prefix(adapter):
        _lora(model, adapter, head_of(model), "")


def load_adapter(
    path: str | Path, model: TransformerModel, base: str | Path | None = None, verify: bool = True
) -> Adapter:
    """The adapter of a folder, built for the plain `model` and not attached (`attach`, `AdapterSet`). `base`: the folder
    that the model was loaded from, which is compared with the one that the adapter was tuned on.

    Raises `UserError` naming what does not fit: another base, a pickle, an unsupported kind of adapter.
    """
    from parakit.model.adapters import without_adapter

    folder = _check_adapter_folder(path, verify)
    if base is not None:
        check_adapter_base(folder, _lineage(folder), Path(base))
    peft = read_peft_config(folder)
    where = regular_file(folder, WEIGHTS)
    tensors = dict(read_tensors(read_header(where)))
    if bad := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise UserError(f"{where}: {bad[0]} holds NaN or infinity", "its tuning diverged, or fetch it again")
    read = _read_lora if peft["peft_type"] == "LORA" else _read_virtual_tokens
    with without_adapter(model):
        return read(model, tensors, peft, where)


def load_with_adapter(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
    base: str | Path | None = None,
) -> tuple[TransformerModel, Tokenizer | None]:
    """The base that an adapter's folder names (or `base`) with the adapter attached, in evaluation mode, and the base's
    tokenizer.
    """
    from parakit.model.adapters import attach

    folder = _check_adapter_folder(path, verify)
    base = base_folder(folder) if base is None else Path(base)
    model, tokenizer = load_full_model(base, device, dtype, verify)
    if (head := _recorded_head(folder)) is not None:
        model = _with_head(model, head)
    attach(model, load_adapter(folder, model, base, verify=False))
    model.to(next(model.parameters()).device)
    return model.eval(), tokenizer


def read_adapted_head(path: Path) -> Head:
    """The head of a base with the adapter of this folder."""
    return _recorded_head(path) or read_settings(base_folder(path))[2]


def _check_adapter_folder(path: str | Path, verify: bool) -> Path:
    folder = Path(path)
    if not is_adapter_folder(folder):
        raise UserError(f"{folder}: holds no adapter: there is no {CONFIG}", "name an adapter's folder")
    if check_artifact(folder, "adapter", verify):
        verify_manifest(folder)
    return folder


def _lineage(folder: Path) -> JsonObject:
    lineage: JsonObject = read_small_json(folder / LINEAGE) if (folder / LINEAGE).is_file() else {}
    return lineage


def _recorded_head(folder: Path) -> Head | None:
    """The head in an adapter's lineage; None where the base's own is used."""
    head = (_lineage(folder).get("config") or {}).get("head")
    if not isinstance(head, dict):
        return None
    if head.get("classes"):
        return Head("classifier", ClassifierConfig.parse(head["classes"], LINEAGE))
    return Head("embedder", pooling=EmbedderConfig.parse(head["pooling"], LINEAGE))


def _with_head(model: TransformerModel, head: Head) -> TransformerModel:
    """The base's trunk, and its dense layers where it has such, under `head`, whose weights the adapter contains."""
    from parakit.model.quantized import quantized_modules

    if head_of(model) == head:
        return model
    first = next(model.parameters())
    plan = {name: one.scheme for name, one in quantized_modules(model).items() if name.startswith("trunk.")}
    other = empty_model(model.config, head, first.device, first.dtype, plan)
    shapes = {name: p.shape for name, p in other.named_parameters()}
    state = {
        name: p
        for name, p in model.state_dict().items()
        if name.startswith("trunk.") or (name.startswith(DENSE_LAYERS) and shapes.get(name) == p.shape)
    }
    other.load_state_dict(state, strict=False)
    carry_publisher(model, other)
    return other


def _names(model: TransformerModel, head: Head) -> ModuleNames:
    """Its modules in transformers, in the architecture that it was loaded as."""
    architecture = choose_architecture(model.config, head, publisher_of(model))
    return ModuleNames(architecture, model.config, head)


def _is_prefix(adapter: Adapter) -> bool:
    """Whether it is a prompt or a prefix."""
    return list(adapter.wrappers) == ["trunk"]


def _lora(
    model: TransformerModel, adapter: Adapter, head: Head, base: str
) -> tuple[JsonObject, dict[str, torch.Tensor]]:
    from parakit.checkpoints.adapters.lora_tensors import lora_tensors, trained_token_ids

    names, settings = _names(model, head), adapter.config
    tensors, ranks, fully_trained = lora_tensors(adapter.wrappers, names)
    suffixes = {hf_name.rpartition(".")[2] for hf_name in ranks}
    matching = {hf_name for hf_name in names.modules if hf_name.rpartition(".")[2] in suffixes}
    config = peft_lora_config(
        base,
        head,
        ranks,
        target_modules=suffixes if matching == ranks.keys() else ranks.keys(),
        dropout=getattr(settings, "dropout", 0.0),
        rank_stabilized=getattr(settings, "rank_stabilized", False),
        dora=getattr(settings, "dora", False),
        transposed=any(names.modules[hf_name].transposed for hf_name in ranks),
        modules_to_save=fully_trained,
        token_ids=trained_token_ids(adapter.wrappers, names),
    )
    return config, tensors


def _virtual_tokens(
    model: TransformerModel, adapter: Adapter, head: Head, base: str
) -> tuple[JsonObject, dict[str, torch.Tensor]]:
    from parakit.model.adapters.prefix_tuning import PrefixedTrunk

    wrapper = adapter.wrappers["trunk"]
    assert isinstance(wrapper, PrefixedTrunk)
    (name, tensor), *_ = wrapper.adapter_parameters().items()
    kind = "PROMPT_TUNING" if name == "prompt_embedding" else "PREFIX_TUNING"
    config = virtual_tokens_config(kind, base, wrapper.config, wrapper.n_prompt_tokens)
    return config, {PROMPT: tensor}


def _read_lora(
    model: TransformerModel, tensors: Mapping[str, torch.Tensor], peft: Mapping[str, Any], where: Path
) -> Adapter:
    from parakit.checkpoints.adapters.lora_tensors import lora_wrappers
    from parakit.model.adapters import LoraConfig
    from parakit.model.adapters.attachment import Adapter

    wrappers = lora_wrappers(model, tensors, _names(model, head_of(model)), peft, where)
    config = LoraConfig(
        rank=int(peft.get("r", 8)),
        alpha=float(peft.get("lora_alpha", 8)),
        dropout=float(peft.get("lora_dropout") or 0.0),
        targets=tuple(wrappers) or None,
        rank_stabilized=bool(peft.get("use_rslora")),
        dora=bool(peft.get("use_dora")),
    )
    return Adapter(config, wrappers)


def _read_virtual_tokens(
    model: TransformerModel, tensors: Mapping[str, torch.Tensor], peft: Mapping[str, Any], where: Path
) -> Adapter:
    from parakit.checkpoints.adapters.lora_tensors import copy_checked
    from parakit.model.adapters import PrefixConfig, PromptConfig, make_prefix, make_prompt

    if set(tensors) != {PROMPT}:
        raise UserError(
            f"{where}: holds {sorted(tensors)[:3]}, and a prompt has {PROMPT!r} alone", "fetch it again"
        )
    assert isinstance(model.config, DecoderConfig)
    n = len(tensors[PROMPT])
    if peft["peft_type"] == "PROMPT_TUNING":
        adapter = make_prompt(model, PromptConfig(n_prompt_tokens=n), [0])
    else:
        adapter = make_prefix(model, PrefixConfig(n_prompt_tokens=n), [0])
    (name, parameter), *_ = adapter.wrappers["trunk"].adapter_parameters().items()
    copy_checked(parameter, tensors[PROMPT], name, where)
    return adapter
