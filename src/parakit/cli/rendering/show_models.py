"""What `parakit show` reports of a model folder, Parakit's or published, and of an adapter's. Never imports torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.checkpoints.adapters.base_model import BASE, CONFIG, WEIGHTS, base_folder
from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.safetensors_io import read_header
from parakit.cli.rendering.show_shapes import ModelResult
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.formatting import byte_size
from parakit.common.json_reading import check_shape

if TYPE_CHECKING:
    from parakit.checkpoints.mapping import Head
    from parakit.checkpoints.safetensors_io import TensorEntry
    from parakit.model.config import EmbedderConfig, ModelConfig

N_SAMPLES, N_LABELS = 3, 10
MODEL_FIGURES = {
    "bits_per_byte": "bits per byte, end tokens not counted",
    "perplexity": "perplexity",
    "loss": "loss",
    "accuracy": "held-out pairs whose chosen answer has the higher reward",
    "logp_accuracy": "held-out pairs whose chosen answer is the likelier one",
    "reward": "reward on held-out prompts",
    "kl": "KL to the reference, nats per answer",
    "earlier_loss": "loss on earlier data",
    "forgetting": "forgetting on earlier data",
    "replay_share": "share of replayed rows",
    "tokens": "tokens trained on",
    "tokens_per_second": "tokens per second",
    "seconds": "seconds of training",
}
_ADAPTERS = {
    "LORA": "low-rank factors added to the base's matrices",
    "PROMPT_TUNING": "trained vectors before the text",
    "PREFIX_TUNING": "trained keys and values before the text, in every layer",
}
_ADAPTER_SETTINGS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_rslora": "rank-stabilized",
    "use_dora": "trained magnitudes (DoRA)",
    "num_virtual_tokens": "virtual tokens",
    "trainable_token_indices": "tokens with trained embeddings",
}
_ARTICLES = {"encoder": "an encoder", "decoder": "a decoder", "encoder-decoder": "an encoder-decoder"}
_HEADS = {
    "language_model": "predicts the next token",
    "masked_language_model": "predicts masked tokens",
    "sequence_to_sequence": "generates a target from a source",
    "reward_model": "scores texts",
    "embedder": "embeds texts",
}


def describe_model(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """One line, figures in groups, samples."""
    from parakit.checkpoints.import_export import architecture_name
    from parakit.checkpoints.loading import parameter_counts, read_config, read_head
    from parakit.checkpoints.safetensors_io import folder_tensors

    config, head, counts = read_config(path), read_head(path), parameter_counts(path)
    result = check_shape(lineage.get("result") or {}, ModelResult, path / LINEAGE)
    total = counts["total"]
    about: JsonObject = {"architecture": architecture_name(path), "family": config.family}
    about |= _head(head)
    idle = config.n_params()["total"] - config.n_active_params()
    if idle:
        about["active parameters per token"] = total - idle
    parts = [
        {"part": name.replace("_", " "), "parameters": n, "share": f"{n / total:.1%}"}
        for name, n in counts.items()
        if n
    ]
    groups: JsonObject = {
        "measured": _measured(result),
        "model": about,
        "parameters": parts,
        "memory": _memory(config, folder_tensors(path).values()),
        "special tokens": _special_tokens(path),
        **_shape(config),
    }
    if isinstance(result.get("files"), dict):
        groups["made from"] = [
            {"file": name, "sha256": str(sha256)[:12]} for name, sha256 in result["files"].items()
        ]
    if result.get("expert_load"):
        groups["share of tokens by expert"] = [
            {"layer": layer, **{str(expert): f"{share:.1%}" for expert, share in enumerate(shares)}}
            for layer, shares in result["expert_load"].items()
        ]
    samples = [f"{row['prompt']} → {row['completion'].strip()}" for row in result.get("samples") or []]
    what = f"{_ARTICLES[config.family]} of {total:,} parameters that {_purpose(head)}"
    return what, groups, {"samples": samples[:N_SAMPLES]} if samples else {}


def _measured(result: JsonObject) -> JsonObject:
    """The run's figures under readable names; the loss with its unit."""
    shown = {key: label for key, label in MODEL_FIGURES.items() if isinstance(result.get(key), int | float)}
    unit = result.get("loss_unit", "nats per token")
    return {f"{label} ({unit})" if key == "loss" else label: result[key] for key, label in shown.items()}


def _purpose(head: Head) -> str:
    if head.classes is None:
        return _HEADS[head.kind]
    if head.classes.level == "replaced":
        return "tells replaced tokens"
    if head.classes.level == "span":
        return "finds answers in contexts"
    what = "words" if head.classes.level == "token" else "texts"
    return f"scores {what}" if head.classes.regression else f"labels {what}"


def _head(head: Head) -> JsonObject:
    about: JsonObject = {"head": head.kind.replace("_", " ")}
    if head.classes is not None:
        labels = head.classes.labels
        more = f" and {len(labels) - N_LABELS} more" if len(labels) > N_LABELS else ""
        about["labels"] = ", ".join(labels[:N_LABELS]) + more
        about["pooling"] = head.classes.pooling if head.classes.level == "sequence" else "none: each token"
    if head.pooling is not None:
        about |= _pooling(head.pooling)
    return about


def _pooling(pooling: EmbedderConfig) -> JsonObject:
    layers = [f"dense to {layer.d_output} ({layer.activation})" for layer in pooling.dense]
    about: JsonObject = {
        "pooling": " + ".join(pooling.poolings),
        "vectors": ", ".join([*layers, "normalized" if pooling.normalize else "not normalized"]),
    }
    if pooling.max_seq_len is not None:
        about["texts"] = f"cut at {pooling.max_seq_len} tokens"
    if pooling.prompts:
        default = {pooling.default_prompt: " (default)"}
        named = (f"{name}{default.get(name, '')} {text!r}" for name, text in pooling.prompts.items())
        about["prompts"] = ", ".join(named)
    return about


def _memory(config: ModelConfig, entries: Iterable[TensorEntry]) -> list[JsonObject]:
    """Bytes of the stored weights, and of the KV cache in their commonest dtype."""
    from parakit.checkpoints.safetensors_io import DTYPE_BITS, WEIGHT_DTYPES
    from parakit.planning.memory import cache_bytes

    stored: dict[str, int] = {}
    for entry in entries:
        stored[entry.dtype] = stored.get(entry.dtype, 0) + entry.stop - entry.start
    names = {dtype: WEIGHT_DTYPES.get(dtype, dtype) for dtype in sorted(stored)}
    plain = {
        dtype: n for dtype, n in stored.items() if dtype in WEIGHT_DTYPES
    }  # the others hold quantized weights
    is_quantized = bool(plain) and len(plain) < len(stored)
    main = "F16" if is_quantized else max(plain or stored, key=lambda dtype: stored[dtype])  # as on a CPU
    rows = [("weights", sum(stored.values()), ", ".join(names.values()))]
    cache = cache_bytes(config, DTYPE_BITS[main] // 8)
    cached = WEIGHT_DTYPES.get(main, main)
    if cache is not None:
        rows.append(("KV cache per token", cache.per_token, cached))
        if cache.per_source_token:
            rows.append(("KV cache per source token", cache.per_source_token, cached))
        rows.append(("KV cache of a full context window", cache.whole, cached))
    return [{"what": what, "size": byte_size(n), "bytes": n, "dtype": dtype} for what, n, dtype in rows]


def _special_tokens(path: Path) -> JsonObject:
    """Purpose, string and id."""
    from parakit.tokens.tokenizer.files import has_tokenizer
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    if not has_tokenizer(path):
        return {"tokenizer": "none in this folder"}
    tokenizer = Tokenizer.load(path)
    shown: JsonObject = {"tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"}
    for purpose, form in tokenizer.special.strings.items():
        shown[purpose] = f"{form}  {tokenizer.token_id(form)}"
    if sentinels := tokenizer.sentinel_ids:
        shown["sentinels"] = f"{tokenizer.special.sentinels[0]} ...  {len(sentinels)} of them"
    if tokenizer.turn_ids:
        shown["turns"] = ", ".join(f"{name} {token_id}" for name, token_id in tokenizer.turn_ids.items())
    return shown


def _shape(config: ModelConfig) -> dict[str, JsonObject]:
    """The settings, one group per stack of blocks."""
    dumped = config.model_dump(mode="json")
    stacks = {name: dumped.pop(name) for name in ("encoder", "decoder") if isinstance(dumped.get(name), dict)}
    return {"architecture": _effective(dumped)} | {name: _effective(stack) for name, stack in stacks.items()}


def _effective(shape: JsonObject) -> JsonObject:
    """A stack's settings without those that its other settings switch off."""
    idle: set[str] = set()
    if shape.get("positions") != "rotary":
        idle |= {"rope_theta", "local_rope_theta", "rope_scaling"}
    if shape.get("positions") != "relative":
        idle |= {"n_relative_buckets", "max_relative_distance", "bias_per_layer"}
    if shape.get("positions") not in ("learned", "sinusoidal"):
        idle.add("position_offset")
    if shape.get("positions") != "sinusoidal":
        idle.add("sinusoids")
    if shape.get("attention") != "low_rank":
        idle.add("low_rank_len")
    if not shape.get("n_experts"):
        idle |= {name for name in shape if "expert" in name} | {
            "dense_layers",
            "balance_coef",
            "router_z_coef",
        }
    return flat({name: value for name, value in shape.items() if name not in idle})


def flat(settings: JsonObject, prefix: str = "") -> JsonObject:
    """Nested settings under dotted names."""
    flattened: JsonObject = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flattened |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            flattened[prefix + key] = (
                value
                if isinstance(value, bool | int | float | str)
                else json.dumps(value, ensure_ascii=False)
            )
    return flattened


def describe_adapter(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """One line, figures in groups, no samples."""
    peft = read_small_json(path / CONFIG)
    entries = read_header(path / WEIGHTS)
    n = 0
    for entry in entries.values():
        size = 1
        for length in entry.shape:
            size *= length
        n += size
    about: JsonObject = {"kind": _ADAPTERS.get(str(peft.get("peft_type")), str(peft.get("peft_type")))}
    about |= {name: str(peft[key]) for key, name in _ADAPTER_SETTINGS.items() if peft.get(key)}
    for key, name in (("target_modules", "modules"), ("modules_to_save", "fully trained")):
        if isinstance(modules := peft.get(key), list):
            about[name] = ", ".join(map(str, modules[:12])) + (" ..." if len(modules) > 12 else "")
    about |= {"parameters": n, "base": str(peft.get(BASE))}
    try:
        about["base folder"] = str(base_folder(path).resolve())
    except UserError:
        about["base folder"] = "missing"
    result = lineage.get("result") or {}
    measured = {
        label: result[key]
        for key, label in (
            ("loss", "loss"),
            ("bits_per_byte", "bits per byte"),
            ("seconds", "seconds of training"),
        )
        if isinstance(result.get(key), int | float)
    }
    return f"an adapter of {n:,} parameters", {"measured": measured, "adapter": about}, {}
