"""The `quantization_config` of a config.json in the layout of compressed-tensors: written, and read from untrusted folders.

Each of its groups has a scheme and the modules that it is for, by name or by class ("Linear"). Read are integer weights of 4
and 8 bits with a scale for each row or group, alone or with int8 activations that are rounded for each token. Which scheme a
matrix has follows from the shapes of its tensors: the patterns of an untrusted file are never run. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.json_reading import shown
from parakit.model.quantized.scheme import QuantScheme

KEY, METHOD = "quantization_config", "compressed-tensors"
PACKED, PLAIN_INTEGERS = "pack-quantized", "int-quantized"
FORMATS = (PACKED, PLAIN_INTEGERS, "naive-quantized", "mixed-precision")
LINEAR = "Linear"
MAX_GROUPS = 64
READ = "int4 and int8 weights in the layout of compressed-tensors, with a scale for each row or for groups of 32, 64 or 128"


@dataclass(frozen=True)
class SchemeGroup:
    """A scheme and the modules that it is for: names, classes, and patterns that begin with `re:`."""

    scheme: QuantScheme
    targets: tuple[str, ...]


def is_quantized_config(hf_config: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json names weights in this layout."""
    quantization = hf_config.get(KEY)
    return isinstance(quantization, Mapping) and quantization.get("quant_method") == METHOD


def without_quantization(hf_config: JsonObject) -> JsonObject:
    """A parsed config.json without the settings of quantized weights in this layout, which have no part in the shape."""
    if not is_quantized_config(hf_config):
        return hf_config
    return {key: value for key, value in hf_config.items() if key != KEY}


def read_groups(hf_config: Mapping[str, Any], where: str | Path) -> tuple[SchemeGroup, ...]:
    """The groups of a parsed config.json; () for one with plain weights. `UserError` names what is not supported: other
    methods (GPTQ, AWQ, bitsandbytes, fp8), formats, bits and activations.
    """
    quantization = hf_config.get(KEY)
    if quantization is None:
        return ()
    if not is_quantized_config(hf_config):
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else quantization
        if method == "mxfp4":
            return ()  # of gpt-oss: see `mxfp4`
        raise UserError(
            f"{where}: its weights are quantized by {shown(method)}, whose tensors Parakit does not read",
            f"Parakit reads {READ}; take the publisher's plain weights and quantize them: parakit quantize",
        )
    for key in ("kv_cache_scheme", "transform_config", "sparsity_config"):
        value = quantization.get(key)
        if value and not (
            isinstance(value, Mapping) and value.get("format") in ("dense", None) and key[0] == "s"
        ):
            raise _unsupported(where, key, value)
    if quantization.get("quantization_status", "compressed") != "compressed":
        raise _unsupported(where, "quantization_status", quantization["quantization_status"])
    if (form := quantization.get("format", PACKED)) not in FORMATS:
        raise _unsupported(where, "format", form)
    groups = quantization.get("config_groups")
    if not isinstance(groups, Mapping) or not 0 < len(groups) <= MAX_GROUPS:
        raise UserError(f"{where}: `{KEY}` has no groups of modules, or over {MAX_GROUPS}", "fetch it again")
    return tuple(
        _read_group(group, f"{where}: group {shown(name)} of `{KEY}`") for name, group in groups.items()
    )


def quantization_json(
    linear: Mapping[str, QuantScheme], embeddings: Mapping[str, QuantScheme], plain: Iterable[str]
) -> JsonObject:
    """The settings for modules of transformers by name: linear layers, embeddings (and an output matrix that is tied to one),
    and linear layers that stay `plain`.

    transformers 5 reads quantized embeddings and packed zero points only while it dequantizes; `dequantize` asks for that, so
    that the folder loads without arguments.
    """
    by_scheme: dict[QuantScheme, list[str]] = {}
    for name, scheme in linear.items():
        by_scheme.setdefault(scheme, []).append(name)
    most = max(by_scheme, key=lambda scheme: len(by_scheme[scheme]), default=None)
    for name, scheme in embeddings.items():
        # where only its activations differ it joins the matrices' group: an embedding has none
        alike = (one for one in by_scheme if one.replace(activation_bits=None) == scheme)
        by_scheme.setdefault(next(alike, scheme), []).append(name)
    groups = {}
    for number, (scheme, names) in enumerate(by_scheme.items()):
        rest = [name for name in names if name not in linear] if scheme == most else names
        targets = [LINEAR, *rest] if scheme == most else names
        groups[f"group_{number}"] = _group_json(scheme, targets)
    forms = {group["format"] for group in groups.values()}
    return {
        "quant_method": METHOD,
        "format": forms.pop() if len(forms) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": sorted(plain),
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
        **({"dequantize": True} if _must_dequantize(by_scheme, embeddings) else {}),
    }


def transformers_reads(linear: Iterable[QuantScheme], embeddings: Iterable[QuantScheme]) -> bool:
    """Whether transformers 5 loads a folder with these schemes: while it dequantizes it knows one alone."""
    of_weights = {scheme.replace(activation_bits=None) for scheme in (*linear, *embeddings)}
    return len(of_weights) == 1 or not _must_dequantize(of_weights, embeddings)


def _must_dequantize(schemes: Iterable[QuantScheme], embeddings: Iterable[object]) -> bool:
    return any(True for _ in embeddings) or any(not scheme.symmetric for scheme in schemes)


def storage_format(scheme: QuantScheme) -> str:
    """How a matrix of this scheme is stored: vLLM reads weight-only int8 packed, and int8 with activations as it is."""
    return PLAIN_INTEGERS if scheme.bits == 8 and scheme.activation_bits is not None else PACKED


def _group_json(scheme: QuantScheme, targets: Iterable[str]) -> JsonObject:
    group = scheme.quant_group_size
    weights: JsonObject = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "channel" if group is None else "group",
        "group_size": group,
        "dynamic": False,
    }
    of_token = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    return {
        "targets": list(targets),
        "weights": weights,
        "input_activations": None if scheme.activation_bits is None else of_token,
        "output_activations": None,
        "format": storage_format(scheme),
    }


def _read_group(group: Any, where: str) -> SchemeGroup:
    if not isinstance(group, Mapping) or not isinstance(group.get("weights"), Mapping):
        raise UserError(f"{where} has no settings of `weights`", f"Parakit reads {READ}")
    targets = group.get("targets") or []
    if not isinstance(targets, list) or not all(isinstance(one, str) for one in targets):
        raise UserError(f"{where}: `targets` is {shown(targets)}", "it is a list of names of modules")
    if group.get("output_activations"):
        raise _unsupported(where, "output_activations", group["output_activations"])
    if group.get("format") not in (None, *FORMATS):
        raise _unsupported(where, "format", group["format"])
    weights = group["weights"]
    strategy = weights.get("strategy") or ("channel" if weights.get("group_size") in (None, -1) else "group")
    for key, value, supported in (
        ("type", weights.get("type", "int"), ("int",)),
        ("num_bits", weights.get("num_bits", 8), (4, 8)),
        ("strategy", strategy, ("channel", "group")),
        ("group_size", weights.get("group_size"), (32, 64, 128) if strategy == "group" else (None, -1)),
        ("symmetric", weights.get("symmetric", True), (True, False)),
        ("dynamic", weights.get("dynamic", False), (False,)),
        ("actorder", weights.get("actorder"), (None, False, "weight", "static")),
        ("block_structure", weights.get("block_structure"), (None,)),
    ):
        if not any(value is one or (value == one and type(value) is type(one)) for one in supported):
            raise _unsupported(where, key, value)
    settings = {
        "bits": weights.get("num_bits", 8),
        "quant_group_size": weights["group_size"] if strategy == "group" else None,
        "symmetric": weights.get("symmetric", True),
        "activation_bits": _activation_bits(group.get("input_activations"), where),
    }
    return SchemeGroup(QuantScheme.parse(settings, where), tuple(targets))


def _activation_bits(settings: Any, where: str) -> int | None:
    """8 for activations rounded to int8 for each token; None where they are not rounded."""
    if not settings:
        return None
    expected = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    if not isinstance(settings, Mapping) or any(
        settings.get(key) != value for key, value in expected.items()
    ):
        raise _unsupported(where, "input_activations", settings)
    return 8


def _unsupported(where: str | Path, key: str, value: Any) -> UserError:
    return UserError(
        f"{where}: `{key}` is {shown(value)}, which Parakit does not read",
        f"it reads {READ}; take the publisher's plain weights and quantize them: parakit quantize",
    )
