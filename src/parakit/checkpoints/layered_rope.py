"""Layers of two kinds in a Hugging Face `config.json`, full and local ones, each kind with its own rotary positions: read
and written. Torch-free.

`layer_types` names the kind of each layer, and `rope_parameters` has a group for each kind. Older files have a pattern
instead, and keys of their own for the two bases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.rope_config import read_rope_group, write_rope
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.transformer_config import TransformerConfig

KINDS = ("full_attention", "sliding_attention")


def read_layer_types(
    hf_config: HFConfig, n_layers: Any, where: str | Path, window: int | None, is_local: Callable[[int], bool]
) -> JsonObject:
    """`sliding_window` and `local_layers`. Where the keys are absent, the window is `window`, and a layer is local if
    `is_local`.
    """
    if type(n_layers) is not int:  # reported by the config's own check
        return {}
    window = hf_config.get("sliding_window", window)
    types = hf_config.get("layer_types")
    if types is None:
        types = [KINDS[window is not None and is_local(layer)] for layer in range(n_layers)]
    if not isinstance(types, list) or len(types) != n_layers or not all(kind in KINDS for kind in types):
        raise UserError(
            f"{where}: `layer_types` must name one of {', '.join(KINDS)} for each of the {n_layers} layers",
            "Parakit supports full and sliding-window attention only",
        )
    local = tuple(layer for layer, kind in enumerate(types) if kind == KINDS[1])
    if not local:
        return {"sliding_window": None, "local_layers": None}
    if window is None:
        raise UserError(
            f"{where}: `layer_types` has a sliding window in layer {local[0]}, and `sliding_window` is null",
            "set sliding_window as the model was trained",
        )
    return {"sliding_window": window, "local_layers": None if len(local) == n_layers else local}


def write_layer_types(config: TransformerConfig) -> JsonObject:
    """`sliding_window` and `layer_types`."""
    kinds = [KINDS[config.is_local(layer)] for layer in range(config.n_layers)]
    return {"sliding_window": config.sliding_window if KINDS[1] in kinds else None, "layer_types": kinds}


def read_layered_rope(
    hf_config: HFConfig, where: str | Path, keys: tuple[str, str], defaults: tuple[float, float]
) -> JsonObject:
    """`rope_theta`, `rope_scaling` and `local_rope_theta`. `keys` are those of the two bases in older files, `defaults`
    transformers' values; there `rope_scaling` is that of full layers.
    """
    groups = hf_config.get("rope_parameters") or {}
    if not isinstance(groups, Mapping) or groups.keys() - set(KINDS):
        raise UserError(
            f"{where}: `rope_parameters` is {groups!r}, and must have one mapping for each of {', '.join(KINDS)}",
            "fetch the model's config.json again",
        )
    found = []
    for kind, key, default in zip(KINDS, keys, defaults, strict=True):
        group, name = groups.get(kind), f"rope_parameters.{kind}"
        if kind == KINDS[0] and group is None and hf_config.get("rope_scaling"):
            group, name = hf_config["rope_scaling"], "rope_scaling"
        old, (new, scaling) = hf_config.get(key), (None, None)
        if group is not None:
            new, scaling = read_rope_group(group, hf_config, where, name)
        if old is not None and new is not None and old != new:
            raise UserError(
                f"{where}: `{key}` is {old!r}, and `rope_parameters` has {new!r}",
                "keep the one that the model was trained with",
            )
        theta = new if new is not None else old
        found.append((default if theta is None else theta, scaling))
    (theta, scaling), local = found
    if local == (theta, scaling):
        return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": None}
    if local[1] is not None:
        raise UserError(
            f"{where}: `rope_parameters.sliding_attention` is scaled differently from full_attention",
            "Parakit scales local layers like the others, or not at all",
        )
    return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": local[0]}


def write_layered_rope(config: TransformerConfig, keys: tuple[str, str]) -> JsonObject:
    """The two groups, and the bases under the older `keys`."""
    written = write_rope(config)
    full = local = written["rope_parameters"]
    if config.local_rope_theta is not None:
        local = {"rope_theta": config.local_rope_theta, "rope_type": "default"}
    written["rope_parameters"] = dict(zip(KINDS, (full, local), strict=True))
    return {**written, keys[1]: local["rope_theta"], keys[0]: full["rope_theta"]}
