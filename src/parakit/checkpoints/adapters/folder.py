"""Adapter folders: `adapter_config.json` and `adapter_model.safetensors` as peft has them, and our lineage, which
says on which base it was tuned.

Nothing is unpickled; an adapter for another base is refused. A classifier's new head lies in the adapter too, and what
it says (its labels) in the lineage.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import model_folder
from parakit.checkpoints.adapters import base_model as tuned_on
from parakit.checkpoints.adapters.base_model import CONFIG, WEIGHTS, base_folder, is_adapter_folder
from parakit.checkpoints.adapters.names import Names
from parakit.checkpoints.adapters.peft_config import lora_config, read_peft_config, virtual_tokens_config
from parakit.checkpoints.folder_safety import check_folder, read_small_json, regular_file
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.safetensors_io import read_header, read_tensors, write_tensors
from parakit.checkpoints.weights import empty_model
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
from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig

if TYPE_CHECKING:
    import torch

    from parakit.model.adapters.attachment import Adapter
    from parakit.model.heads import Model
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

__all__ = ["base_folder", "is_adapter_folder", "load_adapter", "load_with_adapter", "save_adapter"]
PROMPT = "prompt_embeddings"


def save_adapter(
    model: Model,
    adapter: Adapter,
    base: str | Path,
    path: str | Path,
    lineage: Lineage,
    overwrite: bool = False,
    *,
    card: str | None = None,
    logs: Iterable[Path] = (),
) -> Path:
    """Write an adapter of `model`, whose base is the folder `base`, as an artifact of kind "adapter". The base is
    named by its path from the adapter's folder, so both can be moved together.
    """
    base, path, head = Path(base), Path(path), model_folder.head_of(model)
    named = os.path.relpath(base.resolve(), path.resolve())
    written = _virtual_tokens if _is_prefix(adapter) else _lora
    config, tensors = written(model, adapter, head, named)
    about: dict[str, Any] = {
        "base": {**tuned_on.identity(base), "path": named},
        "adapter": adapter.config and adapter.config.model_dump(mode="json"),
    }
    if head.classes is not None or head.pooling is not None:
        about["head"] = {
            "classes": head.classes and head.classes.model_dump(mode="json"),
            "pooling": head.pooling and head.pooling.model_dump(mode="json"),
        }
    lineage.config = {**lineage.config, **about}
    with writing_artifact(path, lineage, overwrite) as folder:
        write_json_atomic(folder / CONFIG, config)
        write_tensors(tensors, folder / WEIGHTS)
        for log in logs:
            (folder / model_folder.TRAINING_LOGS).mkdir(exist_ok=True)
            copy = shutil.copytree if log.is_dir() else shutil.copy
            copy(log, folder / model_folder.TRAINING_LOGS / log.name)
        if card is not None:
            write_text_atomic(folder / "README.md", card)
    return path


def check_can_be_saved(model: Model, adapter: Adapter) -> None:
    """Raise the `UserError` of saving now rather than after training."""
    if not _is_prefix(adapter):
        _lora(model, adapter, model_folder.head_of(model), "")


def load_adapter(
    path: str | Path, model: Model, base: str | Path | None = None, verify: bool = True
) -> Adapter:
    """The adapter of a folder, for the plain `model`; it is not put on (`attach`, `AdapterSet`). `base`: the folder
    that the model came from, which is compared with the one that the adapter was tuned on.

    Raises `UserError` naming what does not fit: another base, a pickle, an adapter of an unknown kind.
    """
    from parakit.model.adapters import without_adapter

    folder = _checked(path, verify)
    lineage = read_small_json(folder / LINEAGE) if (folder / LINEAGE).is_file() else {}
    if base is not None:
        tuned_on.check_identity(folder, lineage, Path(base))
    peft = read_peft_config(folder)
    where = regular_file(folder, WEIGHTS)
    tensors = dict(read_tensors(read_header(where)))
    read = _read_lora if peft["peft_type"] == "LORA" else _read_virtual_tokens
    with without_adapter(model):
        return read(model, tensors, peft, where)


def load_with_adapter(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    verify: bool = True,
    base: str | Path | None = None,
) -> tuple[Model, Tokenizer | None]:
    """The base that an adapter's folder names (or `base`), with the adapter on, in evaluation mode, and the base's
    tokenizer.
    """
    from parakit.model.adapters import attach

    folder = _checked(path, verify)
    base = base_folder(folder) if base is None else Path(base)
    model, tokenizer = model_folder.load_model(base, device, dtype, verify)
    lineage = read_small_json(folder / LINEAGE) if (folder / LINEAGE).is_file() else {}
    said = (lineage.get("config") or {}).get("head")
    if isinstance(said, dict):
        model = _with_head(model, said)
    adapter = load_adapter(folder, model, base, verify=False)
    attach(model, adapter)
    model.to(next(model.parameters()).device)
    return model.eval(), tokenizer


def read_adapted_head(path: Path) -> Head:
    """The head of the model that an adapter's folder makes."""
    lineage = read_small_json(path / LINEAGE) if (path / LINEAGE).is_file() else {}
    said = (lineage.get("config") or {}).get("head")
    return _head(said) if isinstance(said, dict) else model_folder.read_head(base_folder(path))


def _checked(path: str | Path, verify: bool) -> Path:
    """Refuse what is no adapter, what is dangerous, and what is damaged."""
    folder = Path(path)
    if not is_adapter_folder(folder):
        raise UserError(f"{folder}: holds no adapter: there is no {CONFIG}", "name an adapter's folder")
    check_folder(folder)
    if (folder / LINEAGE).is_file():
        open_artifact(folder, kind="adapter", verify=verify and (folder / MANIFEST).is_file())
    elif verify and (folder / MANIFEST).is_file():
        verify_manifest(folder)
    return folder


def _head(said: Mapping[str, Any]) -> Head:
    if said.get("classes"):
        return Head("classifier", ClassifierConfig.parse(said["classes"], LINEAGE))
    return Head("embedder", pooling=EmbedderConfig.parse(said["pooling"], LINEAGE))


def _with_head(model: Model, said: Mapping[str, Any]) -> Model:
    """The base's trunk under the adapter's head, whose own weights the adapter brings."""
    head = _head(said)
    if model_folder.head_of(model) == head:
        return model
    first = next(model.parameters())
    other = empty_model(model.config, head, first.device, first.dtype)
    state = {name: p for name, p in model.state_dict().items() if name.startswith("trunk.")}
    other.load_state_dict(state, strict=False)
    return other


def _lora(
    model: Model, adapter: Adapter, head: Head, base: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from parakit.checkpoints.adapters.lora_tensors import lora_tensors, trained_tokens

    names, settings = Names(model.config, head), adapter.config
    tensors, sizes, retrained = lora_tensors(adapter.wrappers, names)
    short = {theirs.rpartition(".")[2] for theirs in sizes}
    meant = {theirs for theirs in names.places if theirs.rpartition(".")[2] in short}
    config = lora_config(
        base,
        head,
        sizes,
        shared_name=short if meant == sizes.keys() else sizes.keys(),
        dropout=getattr(settings, "dropout", 0.0),
        rank_stabilized=getattr(settings, "rank_stabilized", False),
        dora=getattr(settings, "dora", False),
        is_turned=any(names.places[theirs].is_turned for theirs in sizes),
        retrained=retrained,
        token_ids=trained_tokens(adapter.wrappers, names),
    )
    return config, tensors


def _is_prefix(adapter: Adapter) -> bool:
    """Whether it stands before the tokens: a prompt or a prefix."""
    return list(adapter.wrappers) == ["trunk"]


def _virtual_tokens(
    model: Model, adapter: Adapter, head: Head, base: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from parakit.model.adapters.prefix_tuning import PrefixedTrunk

    wrapper = adapter.wrappers["trunk"]
    assert isinstance(wrapper, PrefixedTrunk)
    (name, tensor), *_ = wrapper.own().items()
    kind = "PROMPT_TUNING" if name == "prompt_embedding" else "PREFIX_TUNING"
    config = virtual_tokens_config(kind, base, wrapper.config, wrapper.n_prompt_tokens)
    return config, {PROMPT: tensor}


def _read_lora(
    model: Model, tensors: Mapping[str, torch.Tensor], peft: Mapping[str, Any], where: Path
) -> Adapter:
    from parakit.checkpoints.adapters.lora_tensors import lora_wrappers
    from parakit.model.adapters import LoraConfig
    from parakit.model.adapters.attachment import Adapter

    wrappers = lora_wrappers(model, tensors, Names(model.config, model_folder.head_of(model)), peft, where)
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
    model: Model, tensors: Mapping[str, torch.Tensor], peft: Mapping[str, Any], where: Path
) -> Adapter:
    from parakit.checkpoints.adapters.lora_tensors import take
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
    (name, parameter), *_ = adapter.wrappers["trunk"].own().items()
    take(parameter, tensors[PROMPT], name, where)
    return adapter
