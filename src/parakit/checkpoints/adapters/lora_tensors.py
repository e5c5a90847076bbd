"""The factors of a LoRA as peft's tensors, and back.

Where transformers keeps several of our matrices in one module, our factors become one pair there: the `lora_a`
matrices one below the other, the `lora_b` matrices on a diagonal; read back, each takes its rows.

Shapes: I inputs, O outputs, R rank; peft's `lora_A` is our `lora_a` (R, I), its `lora_B` our `lora_b` (O, R).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parakit.checkpoints.adapters.names import Names, Part, Place
from parakit.checkpoints.adapters.peft_config import lora_scale
from parakit.common.errors import UserError
from parakit.model.adapters.config import LoraConfig
from parakit.model.adapters.creation import low_rank, token_rows
from parakit.model.adapters.lora import DoraLinear, FullyTrained, LoraEmbedding, LowRank, Wrapper
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainedRowsHead
from parakit.model.heads import LanguageModel

PREFIX = "base_model.model."
_ROWS = "token_adapter.trainable_tokens_delta"
_KINDS = {
    "lora_A.weight": "lora_a",
    "lora_B.weight": "lora_b",
    "lora_embedding_A": "lora_a",
    "lora_embedding_B": "lora_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}


def lora_tensors(
    wrappers: Mapping[str, Wrapper], names: Names
) -> tuple[dict[str, Tensor], dict[str, tuple[int, float]], set[str]]:
    """peft's tensors; rank and scale of every foreign module; foreign modules that were retrained whole."""
    tensors: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, float]] = {}
    retrained: set[str] = set()
    low = {ours: wrapper for ours, wrapper in wrappers.items() if isinstance(wrapper, LowRank)}
    for place in dict.fromkeys(names.place_of(ours) for ours in low):
        found = [low.get(part.ours) for part in place.parts]
        written = _joined(place, found)
        tensors |= {f"{PREFIX}{place.theirs}.{kind}": tensor for kind, tensor in written.items()}
        rank = next(iter(written.values())).shape[0]
        sizes[place.theirs] = rank, next(one.scale for one in found if one is not None)
    tensors |= _token_rows(wrappers, names)
    for ours, wrapper in wrappers.items():
        if isinstance(wrapper, FullyTrained):
            for name, parameter in wrapper.copy.named_parameters():
                theirs = names.parameters[f"{ours}.{name}"]
                tensors[PREFIX + theirs] = parameter.detach()
                retrained.add(theirs.rpartition(".")[0])
    return tensors, sizes, retrained


def trained_tokens(wrappers: Mapping[str, Wrapper], names: Names) -> list[int] | dict[str, list[int]] | None:
    """peft's `trainable_token_indices`: a list for a tied embedding, else the ids by module; None: no rows train."""
    found = _rows_apart(wrappers)
    if not found:
        return None
    if len(found) == 1:
        return list(next(iter(found.values())).token_ids)
    return {
        names.place_of(ours).theirs.rpartition(".")[2]: list(one.token_ids) for ours, one in found.items()
    }


def _rows_apart(wrappers: Mapping[str, Wrapper]) -> dict[str, TrainableTokens | TrainedRowsHead]:
    """Wrappers with trained rows of their own: a tied head's are the embedding's."""
    found = {
        ours: one for ours, one in wrappers.items() if isinstance(one, TrainableTokens | TrainedRowsHead)
    }
    if len({id(one.rows) for one in found.values()}) < len(found):
        found.pop("lm_head")
    return found


def _token_rows(wrappers: Mapping[str, Wrapper], names: Names) -> dict[str, Tensor]:
    found = _rows_apart(wrappers)
    return {
        f"{PREFIX}{names.place_of(ours).theirs}.{_ROWS}": one.rows.detach() for ours, one in found.items()
    }


def read_rows(model: nn.Module, rows: Mapping[str, Tensor], indices: Any, where: Path) -> dict[str, Wrapper]:
    """The wrappers of trained rows, by our modules."""
    by_module = list(indices.values()) if isinstance(indices, Mapping) else [indices]
    ids: Any = by_module[0] if by_module else None
    one_list = isinstance(ids, list) and all(other == ids for other in by_module)
    if not one_list or "trunk.token_embedding" not in rows:
        raise UserError(
            f"{where}: trainable_token_indices is {indices!r}, with rows for {sorted(rows)}",
            "rows are loaded that belong to one list of tokens of the embedding",
        )
    known = isinstance(model, LanguageModel) and all(
        type(one) is int and 0 <= one < model.config.vocab_size for one in ids
    )
    if not known:
        raise UserError(
            f"{where}: trains the tokens {ids}, which the base has not", "it belongs to another base"
        )
    assert isinstance(model, LanguageModel)
    made = token_rows(model, ids)
    for ours, tensor in rows.items():
        own: Any = made[ours]
        take(own.rows, tensor, f"the tokens' rows of {ours}", where)
    return made


def _joined(place: Place, found: list[LowRank | None]) -> dict[str, Tensor]:
    if len(found) == 1 and found[0] is not None:
        wrapper = found[0]
        lora_a, lora_b = wrapper.factors()
        if isinstance(wrapper, LoraEmbedding):
            return {"lora_embedding_A": lora_a, "lora_embedding_B": lora_b}
        written = {"lora_A.weight": lora_a, "lora_B.weight": lora_b}
        if isinstance(wrapper, DoraLinear):
            written["lora_magnitude_vector"] = wrapper.magnitude.detach()
        return written
    whole = [one for one in found if one is not None]
    if isinstance(whole[0], DoraLinear) and len(whole) < len(found):
        raise UserError(
            f"dora of {len(whole)} of the {len(found)} matrices of {place.theirs} cannot be saved",
            "name all of them as lora_targets, or none",
        )
    factors = [one.factors() for one in whole]
    n_rows = max(part.rows[1] for part in place.parts if part.rows)
    lora_b = factors[0][1].new_zeros(n_rows, sum(lora_a.shape[0] for lora_a, _ in factors))
    column = 0
    for part, one in zip(place.parts, found, strict=True):
        if one is not None:
            _, own = one.factors()
            assert part.rows is not None
            lora_b[slice(*part.rows), column : column + own.shape[1]] = own
            column += own.shape[1]
    written = {"lora_A.weight": torch.cat([lora_a for lora_a, _ in factors]), "lora_B.weight": lora_b}
    if isinstance(whole[0], DoraLinear):
        written["lora_magnitude_vector"] = torch.cat([one.own()["magnitude"].detach() for one in whole])
    return written


def lora_wrappers(
    model: nn.Module, tensors: Mapping[str, Tensor], names: Names, peft: Mapping[str, Any], where: Path
) -> dict[str, Wrapper]:
    """The wrappers that hold these tensors. `UserError` names the tensor that this base has no place for."""
    by_place: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    ours_of = {theirs: ours for ours, theirs in names.parameters.items()}
    for key, tensor in tensors.items():
        theirs = key.removeprefix(PREFIX)
        kind = next((kind for kind in _KINDS if theirs.endswith(f".{kind}")), None)
        place = theirs.removesuffix(f".{kind}")
        if theirs.endswith(f".{_ROWS}") and theirs.removesuffix(f".{_ROWS}") in names.places:
            rows[names.places[theirs.removesuffix(f".{_ROWS}")].parts[0].ours] = tensor
        elif kind is not None and place in names.places:
            by_place.setdefault(place, {})[_KINDS[kind]] = tensor
        elif theirs in ours_of:
            whole[ours_of[theirs]] = tensor
        elif theirs.endswith(".base_layer.weight"):
            _check_base_layer(model, names, theirs.removesuffix(".base_layer.weight"), tensor, where)
        else:
            raise UserError(
                f"{where}: holds {key!r}, and the base ({names.class_name}) has no place for it",
                "the adapter belongs to another base",
            )
    found: dict[str, Wrapper] = {}
    for theirs, kinds in by_place.items():
        found |= dict(_split(model, names.places[theirs], kinds, peft, where))
    if rows or peft.get("trainable_token_indices"):
        found |= read_rows(model, rows, peft.get("trainable_token_indices"), where)
    return found | _retrained(model, whole, where)


def _split(
    model: nn.Module, place: Place, kinds: Mapping[str, Tensor], peft: Mapping[str, Any], where: Path
) -> Iterator[tuple[str, Wrapper]]:
    """The wrappers of one foreign module's parts."""
    wanted = {"lora_a", "lora_b"} | ({"magnitude"} if peft.get("use_dora") else set())
    if kinds.keys() != wanted:
        raise UserError(
            f"{where}: {place.theirs} has only {sorted(kinds)}", "the file is not whole: fetch it again"
        )
    lora_a, lora_b = kinds["lora_a"], kinds["lora_b"]
    rank = lora_a.shape[0]
    scale = lora_scale(peft, place.theirs, rank, where)
    for part in place.parts:
        own_reduce, own_expand = lora_a, lora_b
        if len(place.parts) > 1:
            assert part.rows is not None
            own_expand = lora_b[slice(*part.rows)]
            used = own_expand.any(0)
            if not used.any() and not peft.get("use_dora"):
                continue  # nothing is added to this part
            if used.any():
                own_reduce, own_expand = lora_a[used], own_expand[:, used]
        magnitude = kinds.get("magnitude")
        if magnitude is not None and part.rows is not None:
            magnitude = magnitude[slice(*part.rows)]
        yield part.ours, _filled(model, part, own_reduce, own_expand, magnitude, scale, peft, where)


def _filled(
    model: nn.Module,
    part: Part,
    lora_a: Tensor,
    lora_b: Tensor,
    magnitude: Tensor | None,
    scale: float,
    peft: Mapping[str, Any],
    where: Path,
) -> Wrapper:
    base = model.get_submodule(part.ours)
    config = LoraConfig(dora=magnitude is not None, dropout=float(peft.get("lora_dropout") or 0.0))
    try:
        wrapper = low_rank(base, part.ours, lora_a.shape[0], scale, config)
        named = {"lora_a": lora_a, "lora_b": lora_b} | ({} if magnitude is None else {"magnitude": magnitude})
        for name, tensor in named.items():
            take(getattr(wrapper, name), tensor, f"{name} of {part.ours}", where)
    except UserError as error:
        raise UserError(f"{where}: {error.message.removeprefix(f'{where}: ')}", error.hint) from None
    return wrapper


def _retrained(model: nn.Module, whole: Mapping[str, Tensor], where: Path) -> dict[str, Wrapper]:
    """Copies of the modules whose parameters the adapter brings whole."""
    import copy

    found: dict[str, Wrapper] = {}
    for ours, tensor in whole.items():
        place, _, name = ours.rpartition(".")
        if place not in found:
            base = model.get_submodule(place)
            found[place] = FullyTrained(base, copy.deepcopy(base))
        wrapper = found[place]
        assert isinstance(wrapper, FullyTrained)
        take(dict(wrapper.copy.named_parameters())[name], tensor, ours, where)
    return found


@torch.no_grad()
def take(parameter: Tensor, tensor: Tensor, name: str, where: Path) -> None:
    """Copy a stored tensor to its place; another shape is a `UserError`."""
    if parameter.shape != tensor.shape:
        raise UserError(
            f"{where}: {name} has shape {tuple(tensor.shape)}, and this base needs {tuple(parameter.shape)}",
            "the adapter belongs to another base",
        )
    parameter.copy_(tensor)


def _check_base_layer(model: nn.Module, names: Names, theirs: str, tensor: Tensor, where: Path) -> None:
    """peft keeps a copy of an embedding that it wrapped; it must be the base's own."""
    place = names.places.get(theirs)
    own = None if place is None else model.get_submodule(place.parts[0].ours).weight
    if not isinstance(own, Tensor) or own.shape != tensor.shape or not torch.equal(own, tensor.to(own)):
        raise UserError(
            f"{where}: its copy of the base's {theirs} is not what the base holds",
            "the adapter belongs to another base",
        )
