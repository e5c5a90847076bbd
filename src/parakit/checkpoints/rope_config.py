"""Rotary positions and local layers in a Hugging Face `config.json`, read and written. Torch-free.

The rope base is under `rope_theta` (old) or in `rope_parameters` (new), its scaling in `rope_scaling` (old) or
`rope_parameters` (new); a folder may have any of them as long as they agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.hf_config import HFConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.transformer_config import RopeScaling, TransformerConfig

ROPE = frozenset({"rope_theta", "rope_parameters", "rope_scaling"})
WINDOW = frozenset({"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"})
_KEYS = {
    "default": set[str](),
    "dynamic": {"factor", "original_max_position_embeddings", "alpha"},
    "linear": {"factor"},
    "yarn": {
        *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
        *("attention_factor", "mscale", "mscale_all_dim", "truncate"),
    },
    "longrope": {
        *("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"),
    },
    "llama3": {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
}
_BASIC = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}


def read_rope(
    hf_config: HFConfig, where: str | Path, default_theta: float = 10_000.0, partial: bool = False
) -> JsonObject:
    """`rope_theta` and `rope_scaling` as `TransformerConfig` has them. `partial`: the caller reads how many features are
    rotated, by `read_rotary_dim`.
    """
    thetas = [hf_config["rope_theta"]] if hf_config.get("rope_theta") is not None else []
    scalings = []
    for key in ("rope_parameters", "rope_scaling"):
        if hf_config.get(key):
            theta, scaling = read_rope_group(hf_config[key], hf_config, where, key, partial)
            thetas += [theta] if theta is not None else []
            scalings.append(scaling)
    for name, found in (("rope_theta", thetas), ("rope_scaling", scalings)):
        if any(value != found[0] for value in found):
            raise UserError(
                f"{where}: `{name}` has several values: {found}",
                "keep the one that the model was trained with",
            )
    return {
        "rope_theta": thetas[0] if thetas else default_theta,
        "rope_scaling": scalings[0] if scalings else None,
    }


def read_rope_group(
    group: Any, hf_config: HFConfig, where: str | Path, key: str, partial: bool = False
) -> tuple[float | None, RopeScaling | None]:
    """The base (None where it is absent) and the scaling in one mapping of rope settings, found under `key`."""
    if not isinstance(group, Mapping):
        raise UserError(
            f"{where}: `{key}` is a {type(group).__name__}, not a mapping",
            "fetch the model's config.json again",
        )
    kind = group.get("rope_type", group.get("type", "default"))
    kind = "longrope" if kind == "su" else kind  # its first name
    if (
        not isinstance(kind, str)
        or kind not in _KEYS
        or not (partial or group.get("partial_rotary_factor", 1) == 1)
    ):
        raise UserError(
            f"{where}: `{key}` is {dict(group)!r}, and Parakit does not support such rotary positions",
            f"supported: a rope_type of {', '.join(_KEYS)}, on all features",
        )
    if kind == "default":  # transformers ignores the keys of other types here
        unknown = group.keys() - _BASIC - set[str]().union(*_KEYS.values())
    else:
        unknown = group.keys() - _BASIC - _KEYS[kind]
    if type(group.get("truncate", True)) is not bool:
        raise UserError(
            f"{where}: `{key}` has `truncate` = {group['truncate']!r}, which is not true or false",
            "fetch the folder again",
        )
    if unknown:
        raise UserError(
            f"{where}: `{key}` has `{min(unknown)}`, which Parakit does not support for rope_type {kind!r}",
            f"known: {', '.join(sorted(_BASIC | _KEYS[kind]))}",
        )
    plain = kind in ("default", "dynamic")
    return group.get("rope_theta"), None if plain else _scaling(kind, group, hf_config, where, key)


def is_dynamic(hf_config: HFConfig) -> bool:
    """Whether rotary angles change beyond `max_position_embeddings` (rope_type "dynamic"). Up to that length they are
    plain; Parakit refuses longer texts, because cached keys would have to be rotated again.
    """
    groups = [hf_config.get(key) for key in ("rope_parameters", "rope_scaling")]
    return any(isinstance(g, Mapping) and "dynamic" in (g.get("rope_type"), g.get("type")) for g in groups)


def read_rotary_dim(
    hf_config: HFConfig,
    head_dim: Any,
    where: str | Path,
    default: float = 1.0,
    key: str = "partial_rotary_factor",
) -> int | None:
    """`rotary_dim` from the share of a head's features that are rotated: under `key`, or among the rope settings."""
    found = [hf_config.get(key)]
    for name in ("rope_parameters", "rope_scaling"):
        group = hf_config.get(name)
        found += [group.get("partial_rotary_factor")] if isinstance(group, Mapping) else []
    shares = [share for share in found if share is not None] or [default]
    if type(head_dim) is not int:  # reported by the config's own check
        return None
    if any(type(share) not in (int, float) or not 0 < share <= 1 for share in shares) or len(set(shares)) > 1:
        raise UserError(
            f"{where}: `{key}` is {shares!r}", "it is one share of a head's features, above 0 and at most 1"
        )
    rotated = int(head_dim * shares[0])
    return None if rotated == head_dim else rotated


def write_rotary_share(config: TransformerConfig) -> float:
    """The share of a head's features that are rotated."""
    rotated = config.rotary_dim or config.head_dim
    share = rotated / config.head_dim
    return share if int(config.head_dim * share) == rotated else math.nextafter(share, 1)


def write_rope(config: TransformerConfig) -> JsonObject:
    """The rope settings under their old and their new keys, for old and new versions of transformers."""
    theta, scaling = fold_ntk(config)
    group: JsonObject = {"rope_theta": theta, "rope_type": "default"}
    if config.rotary_dim is not None:
        group["partial_rotary_factor"] = write_rotary_share(config)
    if scaling is not None:
        group |= {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind in ("yarn", "llama3", "longrope"):
            group["original_max_position_embeddings"] = scaling.original_max_seq_len
        if scaling.kind == "yarn":
            group |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
            group |= {} if scaling.truncate else {"truncate": False}
        if scaling.kind == "longrope":
            group |= {
                "short_factor": list(scaling.short_factors),
                "long_factor": list(scaling.long_factors),
            }
        if scaling.kind in ("yarn", "longrope") and scaling.attention_factor is not None:
            group["attention_factor"] = scaling.attention_factor
        if scaling.kind == "llama3":
            group |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
            }
    written = {"rope_theta": theta, "rope_parameters": group}
    if scaling is not None:
        written["rope_scaling"] = {name: value for name, value in group.items() if name != "rope_theta"}
    return written


def fold_ntk(config: TransformerConfig) -> tuple[float, RopeScaling | None]:
    """Base and scaling, with "ntk" scaling folded into the base, to which it is equivalent."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "ntk":
        return config.rope_theta, scaling
    width = config.rotary_dim or config.head_dim
    return config.rope_theta * scaling.factor ** (width / (width - 2)), None


def read_local_layers(
    hf_config: HFConfig, n_layers: Any, where: str | Path, max_window_layers: int = 28
) -> JsonObject:
    """`sliding_window` and `local_layers`, from the four keys that Qwen uses."""
    window = hf_config.get("sliding_window", 4096) if hf_config.get("use_sliding_window") else None
    if type(n_layers) is not int:  # reported by the config's own check
        return {}
    types = hf_config.get("layer_types")
    if types is None:
        first = hf_config.get("max_window_layers", max_window_layers)
        if type(first) is not int:
            raise UserError(
                f"{where}: `max_window_layers` is {first!r}, not a count", "fetch the folder again"
            )
        local = [layer for layer in range(n_layers if window is not None else 0) if layer >= first]
    else:
        kinds = ["full_attention", "sliding_attention"]
        if not isinstance(types, list) or len(types) != n_layers or not all(t in kinds for t in types):
            raise UserError(
                f"{where}: `layer_types` must name one of {', '.join(kinds)} for each of the {n_layers} "
                f"layers",
                "Parakit supports full and sliding-window attention only",
            )
        local = [layer for layer, kind in enumerate(types) if kind == "sliding_attention"]
        if local and window is None:
            raise UserError(
                f"{where}: `layer_types` has a sliding window in layer {local[0]}, and `use_sliding_window` is "
                f"{hf_config.get('use_sliding_window')!r}",
                "set use_sliding_window and sliding_window as the model was trained",
            )
    if not local:
        return {"sliding_window": None, "local_layers": None}
    return {"sliding_window": window, "local_layers": None if len(local) == n_layers else tuple(local)}


def write_local_layers(config: TransformerConfig) -> JsonObject:
    """The four keys with which Qwen describes local layers."""
    local = [layer for layer in range(config.n_layers) if config.is_local(layer)]
    written: JsonObject = {
        "use_sliding_window": bool(local),
        "sliding_window": config.sliding_window if local else None,
        "max_window_layers": local[0] if local else config.n_layers,
    }
    if local:
        kinds = ("full_attention", "sliding_attention")
        written["layer_types"] = [kinds[config.is_local(layer)] for layer in range(config.n_layers)]
    return written


def _scaling(
    kind: str, group: Mapping[str, Any], hf_config: HFConfig, where: str | Path, key: str
) -> RopeScaling:
    longest: Any = hf_config.get("max_position_embeddings")
    original: Any = group.get("original_max_position_embeddings")
    values: JsonObject = {"kind": kind, "factor": group.get("factor")}
    if kind == "longrope":
        original = hf_config.get("original_max_position_embeddings", original)
        values |= {f"{name}_factors": group.get(f"{name}_factor") for name in ("short", "long")}
        values["attention_factor"] = group.get("attention_factor")
    if kind in ("yarn", "llama3", "longrope"):
        values["original_max_seq_len"] = original = longest if original is None else original
    counts = type(longest) is int and type(original) is int and original > 0
    if kind in ("yarn", "longrope") and values["factor"] is None and counts:
        values["factor"] = longest / original if kind == "yarn" else max(longest / original, 1.0)
    if kind == "yarn":
        values |= {name: group[name] for name in ("beta_fast", "beta_slow") if group.get(name)}
        values["attention_factor"] = group.get("attention_factor")
        values["truncate"] = group.get("truncate", True)
    if kind == "llama3":
        values |= {name: group.get(name) for name in ("low_freq_factor", "high_freq_factor")}
    scaling = RopeScaling.parse(values, f"{where}: `{key}`")
    scales: list[Any] = [group.get("mscale"), group.get("mscale_all_dim")]
    if scaling.attention_factor is None and all(scales):
        if not all(type(scale) in (int, float) and scale > 0 for scale in scales):
            raise UserError(f"{where}: `{key}` has the scales {scales!r}", "they are numbers above 0")
        above, below = (0.1 * scale * math.log(scaling.factor) + 1 for scale in scales)
        scaling = scaling.replace(attention_factor=above / below)
    return scaling
