"""Models made of models: an adapter merged into its base, and the weighted mean of models of one shape.

Merging adds what a LoRA computes to the weights, in float64, once. In fewer bits a small update falls below the steps
that a weight can take: how much of it survives is measured, and a merge that would lose the tune is refused. A tied
embedding whose two uses were changed differently is untied, for one matrix cannot hold both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parakit.checkpoints.adapters import base_folder, is_adapter_folder, load_with_adapter
from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.model_folder import load_model, save_model
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.errors import UserError
from parakit.common.files import sha256_file
from parakit.model.adapters import detach
from parakit.model.adapters.attachment import wrappers_of
from parakit.model.adapters.lora import FullyTrained, LowRank
from parakit.model.adapters.prefix_tuning import PrefixedTrunk
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainedRowsHead
from parakit.model.heads import LanguageModel, Model

MAX_LOST = 0.02  # of the update's norm


@dataclass(frozen=True)
class MergeResult:
    """`lost`: how much of the update rounding took, as a share of its norm, over all weights together."""

    model: Model
    n_weights: int
    lost: float
    untied: bool


def merge_adapter(model: Model, dtype: torch.dtype = torch.float32) -> MergeResult:
    """Turn a model with a LoRA on into a plain one of `dtype`, in place as far as it can be. `UserError` for what no
    weight can hold (a prompt, a prefix), and where there is no adapter.
    """
    wrappers = dict(wrappers_of(model))
    if not wrappers:
        raise UserError("there is no adapter on this model", "what was merged once is not merged again")
    changed: dict[str, tuple[Tensor, Tensor]] = {}  # by parameter: as it is, and merged; exact
    for place, wrapper in wrappers.items():
        if isinstance(wrapper, PrefixedTrunk):
            raise UserError(
                "a prompt or a prefix stands before the text, and no weight can hold it",
                "keep the adapter's folder; it is used like a model's",
            )
        is_tied_head = isinstance(wrapper, TrainedRowsHead) and getattr(model.config, "tie_embeddings", False)
        if isinstance(wrapper, LowRank | TrainableTokens | TrainedRowsHead) and not is_tied_head:
            changed[f"{place}.weight"] = wrapper.base.weight.detach().double(), wrapper.merged_weight()
        elif isinstance(wrapper, FullyTrained):
            before = dict(wrapper.base.named_parameters())
            for name, copied in wrapper.copy.named_parameters():
                changed[f"{place}.{name}"] = before[name].detach().double(), copied.detach().double()
    detach(model)
    tables = [wrappers.get(place) for place in ("trunk.token_embedding", "lm_head")]
    apart = any(isinstance(table, LowRank | FullyTrained) for table in tables)
    tied = apart and getattr(model.config, "tie_embeddings", False)
    model = _untied(model.to(dtype)) if tied else model.to(dtype)
    lost = total = 0.0
    with torch.no_grad():
        for name, (old, new) in changed.items():
            weight = model.get_parameter(name)
            weight.copy_(new)
            lost += float((weight.double() - new).square().sum())
            total += float((new - old).square().sum())
    return MergeResult(model.eval(), len(changed), (lost / total) ** 0.5 if total else 0.0, tied)


def merge_adapter_folder(
    adapter: str | Path,
    output: str | Path,
    *,
    base: str | Path | None = None,
    dtype: str = "float32",
    max_lost: float = MAX_LOST,
    overwrite: bool = False,
) -> MergeResult:
    """Merge an adapter's folder into its base and write a model folder. `UserError` where the base holds this adapter
    already, or where more than `max_lost` of the update would be rounded away in `dtype`.
    """
    adapter = Path(adapter)
    if not is_adapter_folder(adapter):
        raise UserError(
            f"{adapter}: holds no adapter", "name an adapter's folder: parakit merge ADAPTER --output FOLDER"
        )
    base = base_folder(adapter) if base is None else Path(base)
    sha256 = sha256_file(adapter / "adapter_model.safetensors")
    _check_not_merged(base, sha256)
    model, tokenizer = load_with_adapter(adapter, dtype="float32", base=base)
    merged = merge_adapter(model, getattr(torch, dtype))
    if merged.lost > max_lost:
        raise UserError(
            f"{adapter}: in {dtype} rounding takes {merged.lost:.1%} of what the adapter adds (limit {max_lost:.1%})",
            "write float32 (--dtype float32), or keep base and adapter apart",
        )
    said = _lineage_config(adapter)
    config = {"stage": "merge", "chat": bool(said.get("chat")), "dtype": dtype}
    config |= {"adapter": {"path": str(adapter), "sha256": sha256}, "merged": [*_merged_before(base), sha256]}
    parents = [folder for folder in (base, adapter) if (folder / LINEAGE).is_file()]
    result = {"lost": merged.lost, "n_weights": merged.n_weights, "untied": merged.untied}
    save_model(
        merged.model, tokenizer, output, Lineage("model", config, list(parents), result=result), overwrite
    )
    return merged


def merge_models(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    weights: Sequence[float] | None = None,
    overwrite: bool = False,
) -> Path:
    """The weighted mean of models of one shape ("model soups", Wortsman et al. 2022), summed in float64 and written
    as float32. `weights` are scaled to sum to 1; None: all alike. `UserError` names what differs.
    """
    if len(folders) < 2:
        raise UserError(f"{len(folders)} model to merge", "name two or more")
    shares = _shares(weights, len(folders))
    first, tokenizer = load_model(folders[0], dtype="float32")
    sums = {name: _share_of(p, shares[0]) for name, p in first.named_parameters()}
    for folder, share in zip(folders[1:], shares[1:], strict=True):
        model, other = load_model(folder, dtype="float32")
        _check_alike(folders[0], first, tokenizer, folder, model, other)
        for name, p in model.named_parameters():
            sums[name] += _share_of(p, share)
    with torch.no_grad():
        for name, p in first.named_parameters():
            p.copy_(sums[name])
    parents: list[str | Path] = [folder for folder in folders if (Path(folder) / LINEAGE).is_file()]
    chat = [bool(_lineage_config(Path(folder)).get("chat")) for folder in folders]
    config = {"stage": "merge", "method": "linear", "weights": shares, "chat": all(chat)}
    return save_model(first, tokenizer, output, Lineage("model", config, parents), overwrite)


def _share_of(parameter: Tensor, share: float) -> Tensor:
    """A part of a weighted sum, in float64."""
    return parameter.detach().double() * share


def _shares(weights: Sequence[float] | None, n: int) -> list[float]:
    weights = [1.0] * n if weights is None else list(weights)
    if len(weights) != n:
        raise UserError(f"{len(weights)} weights for {n} models", "give one weight a model")
    if sum(weights) <= 0:
        raise UserError(f"the weights {weights} sum to {sum(weights)}", "they must sum to more than 0")
    return [weight / sum(weights) for weight in weights]


def _check_alike(
    one: str | Path, first: Model, tokenizer: Any, other: str | Path, second: Model, its_tokenizer: Any
) -> None:
    for what, a, b in (
        ("kinds", type(first).__name__, type(second).__name__),
        ("shapes", first.config, second.config),
        ("tokenizers", tokenizer and tokenizer.digest, its_tokenizer and its_tokenizer.digest),
    ):
        if a != b:
            raise UserError(
                f"{one} and {other} have different {what}",
                "only models of one shape and tokenizer are merged",
            )


def _untied(model: Model) -> Model:
    """A model whose output matrix is its own: embedding and head no longer agree."""
    if not isinstance(model, LanguageModel):
        raise UserError(
            "the adapter changes an embedding that is tied to the output matrix",
            "only decoders can be untied in a merge",
        )
    kept = model.state_dict()
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    apart = LanguageModel(model.config.replace(tie_embeddings=False)).to(device, dtype)
    apart.load_state_dict(kept)
    return apart


def _lineage_config(folder: Path) -> dict[str, Any]:
    if not (folder / LINEAGE).is_file():
        return {}
    found = read_small_json(folder / LINEAGE).get("config")
    return found if isinstance(found, dict) else {}


def _merged_before(base: Path) -> Iterator[str]:
    """sha256 of the adapters that a base already holds."""
    found = _lineage_config(base).get("merged")
    yield from found if isinstance(found, list) else []


def _check_not_merged(base: Path, sha256: str) -> None:
    if sha256 in _merged_before(base):
        raise UserError(f"{base}: holds this adapter already", "merge it into the model that it was tuned on")
