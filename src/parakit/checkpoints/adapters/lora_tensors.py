"""The factors of a LoRA as peft's tensors, and back.

Where one module of transformers contains several modules here, their factors become one pair there: the `lora_a`
matrices stacked, the `lora_b` matrices block-diagonal; read back, each module gets its rows.

Shapes: I inputs, O outputs, R rank; peft's `lora_A` is `lora_a` (R, I), its `lora_B` is `lora_b` (O, R).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parakit.checkpoints.adapters.module_names import HFModule, ModuleNames
from parakit.checkpoints.adapters.peft_config import lora_scale
from parakit.checkpoints.mapping import join_rows, take_rows
from parakit.common.errors import UserError
from parakit.model.adapters.config import LoraConfig
from parakit.model.adapters.creation import make_low_rank, make_trainable_tokens
from parakit.model.adapters.lora import DoraLinear, FullyTrained, LoraEmbedding, LowRankWrapper, Wrapper
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainableTokensHead
from parakit.model.heads import LanguageModel

PREFIX = "base_model.model."
_ROWS = "token_adapter.trainable_tokens_delta"
_PARAMETERS = {
    "lora_A.weight": "lora_a",
    "lora_B.weight": "lora_b",
    "lora_embedding_A": "lora_a",
    "lora_embedding_B": "lora_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}


def lora_tensors(
    wrappers: Mapping[str, Wrapper], names: ModuleNames
) -> tuple[dict[str, Tensor], dict[str, tuple[int, float]], set[str]]:
    """peft's tensors; rank and scale of every module of transformers; and its modules that are fully trained."""
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, tuple[int, float]] = {}
    fully_trained: set[str] = set()
    low_rank = {name: one for name, one in wrappers.items() if isinstance(one, LowRankWrapper)}
    for module in dict.fromkeys(names.module_with(name) for name in low_rank):
        parts = [low_rank.get(part.name) for part in module.slices]
        joined = _join_factors(module, parts)
        tensors |= {f"{PREFIX}{module.hf_name}.{suffix}": tensor for suffix, tensor in joined.items()}
        rank = next(iter(joined.values())).shape[0]
        ranks[module.hf_name] = rank, next(one.scale for one in parts if one is not None)
    for name, rows in _distinct_rows(wrappers).items():
        tensors[f"{PREFIX}{names.module_with(name).hf_name}.{_ROWS}"] = rows.rows.detach()
    for name, wrapper in wrappers.items():
        if isinstance(wrapper, FullyTrained):
            for parameter_name, parameter in wrapper.copy.named_parameters():
                hf_name = names.parameters[f"{name}.{parameter_name}"]
                tensors[PREFIX + hf_name] = parameter.detach()
                fully_trained.add(hf_name.rpartition(".")[0])
    return tensors, ranks, fully_trained


def trained_token_ids(
    wrappers: Mapping[str, Wrapper], names: ModuleNames
) -> list[int] | dict[str, list[int]] | None:
    """peft's `trainable_token_indices`: a list for a tied embedding, else the ids by module; None: no rows train."""
    rows = _distinct_rows(wrappers)
    if not rows:
        return None
    if len(rows) == 1:
        return list(next(iter(rows.values())).token_ids)
    return {
        names.module_with(name).hf_name.rpartition(".")[2]: list(one.token_ids) for name, one in rows.items()
    }


def _distinct_rows(wrappers: Mapping[str, Wrapper]) -> dict[str, TrainableTokens | TrainableTokensHead]:
    """Wrappers with trained rows of their own: a tied head shares the embedding's."""
    rows = {
        name: one for name, one in wrappers.items() if isinstance(one, TrainableTokens | TrainableTokensHead)
    }
    if len({id(one.rows) for one in rows.values()}) < len(rows):
        rows.pop("lm_head")
    return rows


def _join_factors(module: HFModule, parts: Sequence[LowRankWrapper | None]) -> dict[str, Tensor]:
    """peft's tensors of one module of transformers, from the wrappers of the modules that it contains."""
    if len(parts) == 1 and parts[0] is not None:
        wrapper = parts[0]
        lora_a, lora_b = wrapper.factors()
        if isinstance(wrapper, LoraEmbedding):
            return {"lora_embedding_A": lora_a, "lora_embedding_B": lora_b}
        joined = {"lora_A.weight": lora_a, "lora_B.weight": lora_b}
        if isinstance(wrapper, DoraLinear):
            joined["lora_magnitude_vector"] = wrapper.magnitude.detach()
        return joined
    wrapped = [one for one in parts if one is not None]
    dora = [one for one in wrapped if isinstance(one, DoraLinear)]
    if dora and len(wrapped) < len(parts):
        raise UserError(
            f"dora of {len(wrapped)} of the {len(parts)} matrices of {module.hf_name} cannot be saved",
            "name all of them as lora_targets, or none",
        )
    factors = [one.factors() for one in wrapped]
    rank, groups = sum(lora_a.shape[0] for lora_a, _ in factors), module.slices[0].groups
    blocks, column = [], 0
    for part, one in zip(module.slices, parts, strict=True):
        assert part.rows is not None
        blocks.append(factors[0][1].new_zeros((part.rows[1] - part.rows[0]) * groups, rank))
        if one is not None:
            _, block = one.factors()
            blocks[-1][:, column : column + block.shape[1]] = block
            column += block.shape[1]
    joined = {
        "lora_A.weight": torch.cat([lora_a for lora_a, _ in factors]),
        "lora_B.weight": join_rows(blocks, groups),
    }
    if dora:
        joined["lora_magnitude_vector"] = join_rows([one.magnitude.detach() for one in dora], groups)
    return joined


def lora_wrappers(
    model: nn.Module, tensors: Mapping[str, Tensor], names: ModuleNames, peft: Mapping[str, Any], where: Path
) -> dict[str, Wrapper]:
    """The wrappers that hold these tensors. `UserError` names a tensor that does not belong to this base."""
    low_rank: dict[str, dict[str, Tensor]] = {}
    fully_trained: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    name_of = {hf_name: name for name, hf_name in names.parameters.items()}
    for key, tensor in tensors.items():
        hf_name = key.removeprefix(PREFIX)
        suffix = next((suffix for suffix in _PARAMETERS if hf_name.endswith(f".{suffix}")), None)
        hf_module = hf_name.removesuffix(f".{suffix}")
        with_rows = hf_name.removesuffix(f".{_ROWS}")
        if with_rows != hf_name and with_rows in names.modules:
            rows[names.modules[with_rows].slices[0].name] = tensor
        elif suffix is not None and hf_module in names.modules:
            low_rank.setdefault(hf_module, {})[_PARAMETERS[suffix]] = tensor
        elif hf_name in name_of:
            fully_trained[name_of[hf_name]] = tensor
        elif hf_name.endswith(".base_layer.weight"):
            _check_base_layer(model, names, hf_name.removesuffix(".base_layer.weight"), tensor, where)
        else:
            raise UserError(
                f"{where}: holds {key!r}, and the base ({names.class_name}) has no such module",
                "the adapter belongs to another base",
            )
    wrappers: dict[str, Wrapper] = {}
    for hf_module, parameters in low_rank.items():
        wrappers |= dict(_split_factors(model, names.modules[hf_module], parameters, peft, where))
    if rows or peft.get("trainable_token_indices"):
        wrappers |= _trained_rows(model, rows, peft.get("trainable_token_indices"), where)
    return wrappers | _fully_trained(model, fully_trained, where)


def _split_factors(
    model: nn.Module,
    module: HFModule,
    parameters: Mapping[str, Tensor],
    peft: Mapping[str, Any],
    where: Path,
) -> Iterator[tuple[str, Wrapper]]:
    """The wrappers of the modules that one module of transformers contains."""
    expected = {"lora_a", "lora_b"} | ({"magnitude"} if peft.get("use_dora") else set())
    if parameters.keys() != expected:
        raise UserError(
            f"{where}: {module.hf_name} has only {sorted(parameters)}",
            "the file is incomplete: fetch it again",
        )
    rank = parameters["lora_a"].shape[0]
    scale = lora_scale(peft, module.hf_name, rank, where)
    for part in module.slices:
        own = dict(parameters)
        if len(module.slices) > 1:
            assert part.rows is not None
            own["lora_b"] = take_rows(own["lora_b"], part.rows, part.groups)
            used = own["lora_b"].any(0)
            if not used.any() and not peft.get("use_dora"):
                continue  # this module has no update
            if used.any():
                own |= {"lora_a": own["lora_a"][used], "lora_b": own["lora_b"][:, used]}
        if "magnitude" in own and part.rows is not None:
            own["magnitude"] = take_rows(own["magnitude"], part.rows, part.groups)
        yield part.name, _filled_wrapper(model, part.name, own, scale, peft, where)


def _filled_wrapper(
    model: nn.Module,
    name: str,
    parameters: Mapping[str, Tensor],
    scale: float,
    peft: Mapping[str, Any],
    where: Path,
) -> Wrapper:
    config = LoraConfig(dora="magnitude" in parameters, dropout=float(peft.get("lora_dropout") or 0.0))
    try:
        rank = parameters["lora_a"].shape[0]
        wrapper = make_low_rank(model.get_submodule(name), name, rank, scale, config)
        for parameter, tensor in parameters.items():
            copy_checked(getattr(wrapper, parameter), tensor, f"{parameter} of {name}", where)
    except UserError as error:
        raise UserError(f"{where}: {error.message.removeprefix(f'{where}: ')}", error.hint) from None
    return wrapper


def _trained_rows(
    model: nn.Module, rows: Mapping[str, Tensor], indices: Any, where: Path
) -> dict[str, Wrapper]:
    """The wrappers of trained rows; `indices` is peft's `trainable_token_indices`."""
    by_module = list(indices.values()) if isinstance(indices, Mapping) else [indices]
    ids: Any = by_module[0] if by_module else None
    one_list = isinstance(ids, list) and all(other == ids for other in by_module)
    if not one_list or "trunk.token_embedding" not in rows:
        raise UserError(
            f"{where}: trainable_token_indices is {indices!r}, with rows for {sorted(rows)}",
            "rows are loaded that belong to one list of tokens of the embedding",
        )
    if not isinstance(model, LanguageModel) or not all(
        type(one) is int and 0 <= one < model.config.vocab_size for one in ids
    ):
        raise UserError(
            f"{where}: trains the tokens {ids}, which the base has not", "it belongs to another base"
        )
    wrappers = make_trainable_tokens(model, ids)
    for name, tensor in rows.items():
        copy_checked(wrappers[name].rows, tensor, f"the tokens' rows of {name}", where)
    return dict(wrappers)


def _fully_trained(
    model: nn.Module, parameters: Mapping[str, Tensor], where: Path
) -> dict[str, FullyTrained]:
    """Copies of the modules all of whose parameters the adapter contains."""
    wrappers: dict[str, FullyTrained] = {}
    for path, tensor in parameters.items():
        module, _, name = path.rpartition(".")
        if module not in wrappers:
            base = model.get_submodule(module)
            wrappers[module] = FullyTrained(base, copy.deepcopy(base))
        copy_checked(dict(wrappers[module].copy.named_parameters())[name], tensor, path, where)
    return wrappers


@torch.no_grad()
def copy_checked(parameter: Tensor, tensor: Tensor, name: str, where: Path) -> None:
    """Copy a stored tensor into a parameter; another shape is a `UserError`."""
    if parameter.shape != tensor.shape:
        raise UserError(
            f"{where}: {name} has shape {tuple(tensor.shape)}, and this base needs {tuple(parameter.shape)}",
            "the adapter belongs to another base",
        )
    parameter.copy_(tensor)


def _check_base_layer(
    model: nn.Module, names: ModuleNames, hf_name: str, tensor: Tensor, where: Path
) -> None:
    """peft saves a copy of an embedding that it wrapped; it must equal the base's."""
    module = names.modules.get(hf_name)
    weight = None if module is None else model.get_submodule(module.slices[0].name).weight
    if (
        not isinstance(weight, Tensor)
        or weight.shape != tensor.shape
        or not torch.equal(weight, tensor.to(weight))
    ):
        raise UserError(
            f"{where}: its copy of the base's {hf_name} is not what the base holds",
            "the adapter belongs to another base",
        )
