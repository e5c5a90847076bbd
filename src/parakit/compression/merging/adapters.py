"""Merging an adapter into its base model.

An adapter's update is added to the weights in float64, once. A low-precision dtype rounds small updates away: the rounding_loss
share is measured, and a merge that loses too much is refused. A tied embedding whose two uses have different updates is
untied. A quantized base is dequantized first and stays so: rounded to its old steps, most of an update would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parakit.checkpoints.adapters import base_folder, is_adapter_folder, load_with_adapter
from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.model_folder import save_model
from parakit.checkpoints.publisher import carry_publisher
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, sha256_file
from parakit.common.progress import log
from parakit.compression.merge_check import (
    MAX_LOGIT_DIFFERENCE,
    LogitDifference,
    check_difference,
    largest_difference,
    merge_prompts,
    prompt_logits,
)
from parakit.model.adapters import detach, is_adapted
from parakit.model.adapters.attachment import wrappers_of
from parakit.model.adapters.lora import FullyTrained, LowRankWrapper
from parakit.model.adapters.prefix_tuning import PrefixedTrunk
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainableTokensHead
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.model.quantized import dequantize_modules, is_quantized
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_ROUNDING_LOSS = 0.02  # of the update's norm


@dataclass(frozen=True)
class MergeResult:
    """`rounding_loss`: the norm of what rounding removed as a share of the update's norm, over all weights."""

    model: TransformerModel
    n_weights: int
    rounding_loss: float
    untied: bool
    logit_difference: LogitDifference | None = None
    """From base and adapter, on prompts; None: not measured."""


def merge_adapter(model: TransformerModel, dtype: torch.dtype = torch.float32) -> MergeResult:
    """Turn a model with a LoRA into a plain one of `dtype`, in place where possible. `UserError` for a prompt or prefix,
    which no weight can hold, and for a model without adapter.
    """
    if not is_adapted(model):
        raise UserError("this model has no adapter", "it may have been merged already")
    dequantize_modules(model)
    wrappers = dict(wrappers_of(model))
    changed: dict[str, tuple[Tensor, Tensor]] = {}  # by parameter: before and after, exact
    for place, wrapper in wrappers.items():
        if isinstance(wrapper, PrefixedTrunk):
            raise UserError(
                "a prompt or a prefix cannot be merged into weights",
                "use the adapter's folder, which works like a model folder",
            )
        is_tied_head = isinstance(wrapper, TrainableTokensHead) and getattr(
            model.config, "tie_embeddings", False
        )
        if isinstance(wrapper, LowRankWrapper | TrainableTokens | TrainableTokensHead) and not is_tied_head:
            changed[f"{place}.weight"] = wrapper.base.weight.detach().double(), wrapper.merged_weight()
        elif isinstance(wrapper, FullyTrained):
            before = dict(wrapper.base.named_parameters())
            for name, copied in wrapper.copy.named_parameters():
                changed[f"{place}.{name}"] = before[name].detach().double(), copied.detach().double()
    detach(model)
    tables = [wrappers.get(place) for place in ("trunk.token_embedding", "lm_head")]
    apart = any(isinstance(table, LowRankWrapper | FullyTrained) for table in tables)
    tied = apart and getattr(model.config, "tie_embeddings", False)
    model = _untied(model.to(dtype)) if tied else model.to(dtype)
    rounding_loss = total = 0.0
    with torch.no_grad():
        for name, (old, new) in changed.items():
            weight = model.get_parameter(name)
            weight.copy_(new)
            rounding_loss += float((weight.double() - new).square().sum())
            total += float((new - old).square().sum())
    return MergeResult(model.eval(), len(changed), (rounding_loss / total) ** 0.5 if total else 0.0, tied)


def merge_checked(
    model: TransformerModel,
    tokenizer: Tokenizer | None,
    chat: bool,
    where: str | Path,
    *,
    dtype: str = "float32",
    max_rounding_loss: float = MAX_ROUNDING_LOSS,
    prompts: Sequence[str] = (),
    max_logit_difference: float | None = None,
) -> MergeResult:
    """`merge_adapter`, and the logits before and after it compared on `prompts`, which are messages where `chat`. `UserError`
    over a limit, see `merge_adapter_folder`; `where` names the adapter in it.
    """
    compared = merge_prompts(prompts, None)
    if is_quantized(model):
        log(
            f"{where}: its base has quantized weights; the merged model has plain ones ({dtype}). Quantize it again with"
            " parakit quantize, which measures what that costs"
        )
        dequantize_modules(model)
    before = prompt_logits(model.eval(), tokenizer, compared, chat)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    merged = merge_adapter(model, getattr(torch, dtype))
    if merged.rounding_loss > max_rounding_loss:
        raise UserError(
            f"{where}: in {dtype} rounding loses {merged.rounding_loss:.1%} of the adapter's update"
            f" (limit {max_rounding_loss:.1%})",
            "write float32 (--dtype float32), or keep base and adapter separate",
        )
    if before is None:
        if prompts:
            raise UserError(
                f"{where}: logits of prompts cannot be compared: the base has no tokenizer or predicts no next tokens",
                "merge without prompts",
            )
        return merged
    limit = MAX_LOGIT_DIFFERENCE[dtype] if max_logit_difference is None else max_logit_difference
    after = _logits_as_stored(merged.model, tokenizer, buffers, compared, chat)
    found = largest_difference(before, after, compared, limit)
    check_difference(found, dtype, where)
    return replace(merged, logit_difference=found)


def merge_adapter_folder(
    adapter: str | Path,
    output: str | Path,
    *,
    base: str | Path | None = None,
    dtype: str = "float32",
    max_rounding_loss: float = MAX_ROUNDING_LOSS,
    prompts: Sequence[str] = (),
    max_logit_difference: float | None = None,
    overwrite: bool = False,
) -> MergeResult:
    """Merge an adapter folder into its base and write a model folder. `UserError` where the base already contains this
    adapter, where rounding to `dtype` loses more than `max_rounding_loss` of the update, or where logits on `prompts`
    (none: built-in ones) change by more than `max_logit_difference` (None: by dtype, see `merge_check`).
    """
    adapter = Path(adapter)
    if not is_adapter_folder(adapter):
        raise UserError(
            f"{adapter}: is not an adapter", "name an adapter's folder: parakit merge ADAPTER --output FOLDER"
        )
    base = base_folder(adapter) if base is None else Path(base)
    sha256 = sha256_file(adapter / "adapter_model.safetensors")
    _check_not_merged(base, sha256)
    model, tokenizer = load_with_adapter(adapter, dtype="float32", base=base)
    chat = bool(lineage_config(adapter).get("chat"))
    merged = merge_checked(
        model,
        tokenizer,
        chat,
        adapter,
        dtype=dtype,
        max_rounding_loss=max_rounding_loss,
        prompts=prompts,
        max_logit_difference=max_logit_difference,
    )
    result: JsonObject = {
        "rounding_loss": merged.rounding_loss,
        "n_weights": merged.n_weights,
        "untied": merged.untied,
    }
    if merged.logit_difference is not None:
        result["logit_difference"] = asdict(merged.logit_difference)
    config = {"stage": "merge", "chat": chat, "dtype": dtype}
    config |= {"adapter": {"path": str(adapter), "sha256": sha256}, "merged": [*_merged_before(base), sha256]}
    parents = [folder for folder in (base, adapter) if (folder / LINEAGE).is_file()]
    save_model(
        merged.model, tokenizer, output, Lineage("model", config, list(parents), result=result), overwrite
    )
    return merged


def _logits_as_stored(
    merged: TransformerModel,
    tokenizer: Tokenizer | None,
    buffers: Mapping[str, Tensor],
    prompts: Sequence[str],
    chat: bool,
) -> list[Tensor]:
    """Of the merged weights, as they will be loaded, in float32; the model has its dtype again afterwards. `buffers`: the
    angles, which no file holds and no rounding changes.
    """
    dtype = next(merged.parameters()).dtype
    exact = merged.float()
    for name, buffer in exact.named_buffers():
        buffer.copy_(buffers[name])
    after = prompt_logits(exact, tokenizer, prompts, chat)
    assert after is not None
    merged.to(dtype)
    return after


def _untied(model: TransformerModel) -> TransformerModel:
    """The model with an output matrix of its own."""
    if not isinstance(model, LanguageModel):
        raise UserError(
            "the adapter changes an embedding that is tied to the output matrix",
            "only decoders can be untied in a merge",
        )
    state = model.state_dict()
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    untied = LanguageModel(model.config.replace(tie_embeddings=False)).to(device, dtype)
    untied.load_state_dict(state)
    carry_publisher(model, untied)
    return untied


def lineage_config(folder: Path) -> dict[str, Any]:
    """The settings in a folder's lineage; empty without one."""
    if not (folder / LINEAGE).is_file():
        return {}
    config = read_small_json(folder / LINEAGE).get("config")
    return config if isinstance(config, dict) else {}


def _merged_before(base: Path) -> Iterator[str]:
    """The sha256 of adapters merged into a base."""
    merged = lineage_config(base).get("merged")
    yield from merged if isinstance(merged, list) else []


def _check_not_merged(base: Path, sha256: str) -> None:
    if sha256 in _merged_before(base):
        raise UserError(
            f"{base}: contains this adapter already", "merge it into the model that it was trained on"
        )
