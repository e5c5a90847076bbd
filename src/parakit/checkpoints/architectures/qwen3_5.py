"""Qwen3.5 and Qwen3.6, the language model (Qwen team 2026): three layers of the gated delta rule, then one of attention with
a gate, rotary positions on a quarter of each head, and norms around 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import linear, tensor
from parakit.checkpoints.hf_config import HFConfig, RequiredValues, read_value
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.rope_config import write_rotary_share
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "qwen3_5_text"
CLASSES: Mapping[str, str] = {
    "language_model": "Qwen3_5ForCausalLM",
    "classifier": "Qwen3_5TextForSequenceClassification",
    "reward_model": "Qwen3_5TextForSequenceClassification",
    "embedder": "Qwen3_5TextModel",
}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
OTHER_PREFIX = "model.language_model."  # of folders whose model also reads images
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
KINDS = ("full_attention", "linear_attention")
# setting of the delta rule -> key, and transformers' default
RULE: Mapping[str, tuple[str, int]] = {
    "n_key_heads": ("linear_num_key_heads", 16),
    "n_value_heads": ("linear_num_value_heads", 32),
    "key_dim": ("linear_key_head_dim", 128),
    "value_dim": ("linear_value_head_dim", 128),
    "conv_kernel_size": ("linear_conv_kernel_dim", 4),
}
SHAPE = {"query_key_norm": True, "zero_centered_norm": True, "attention_gate": True}
DEFAULTS: dict[str, Any] = {"attention_bias": False, "head_dim": 256}
REQUIRED: RequiredValues = {
    "attn_output_gate": ((True, None), "attention without a gate"),
    "mlp_only_layers": (([], None), "layers without experts"),
}
# of a second output, which predicts the token after the next one, and the type of the states
IGNORED = ("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mamba_ssm_dtype")


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Without `layer_types` every fourth layer has attention, or every `full_attention_interval`th."""
    return shared.finish(read_hybrid(hf_config, where, MODEL_TYPE, {}, DEFAULTS), where)


def read_hybrid(
    hf_config: HFConfig,
    where: str | Path,
    model_type: str,
    extra: Mapping[str, str],
    defaults: Mapping[str, Any],
) -> JsonObject:
    """The settings of a model of both kinds of layers, and those of `extra`; arguments as for `read_shared`."""
    settings = shared.read_shared(
        _without_images(hf_config),
        where,
        model_type,
        extra={"attention_bias": "attention_bias", **extra},
        required=REQUIRED,
        ignored=IGNORED,
        handled=("layer_types", "full_attention_interval", *(key for key, _ in RULE.values())),
        defaults=defaults,
        partial_rotary=0.25,
    )
    settings["attention_output_bias"] = settings["attention_bias"]
    settings |= SHAPE
    layers = _recurrent_layers(hf_config, settings["n_layers"], where)
    if layers:
        rule = {name: read_value(hf_config, key, where, {key: n}) for name, (key, n) in RULE.items()}
        settings["delta_rule"] = {"layers": layers, **rule}
    return settings


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    rule = config.delta_rule
    sizes = {} if rule is None else {key: getattr(rule, name) for name, (key, _) in RULE.items()}
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "attention_bias": config.attention_bias,
        "partial_rotary_factor": write_rotary_share(config),
        "layer_types": [KINDS[config.is_recurrent(layer)] for layer in range(config.n_layers)],
        **sizes,
    }


def hf_tensors(
    config: DecoderConfig, head: Head, experts: shared.ExpertLayout = shared.EXPERTS
) -> Iterator[HFTensor]:
    """Every tensor, layer by layer; `experts` as for `decoder_tensors`."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d = config.d_model
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", config.vocab_size, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        for part, hf_part in shared.NORMS.items():
            yield tensor(f"{name}.{part}.weight", f"{hf_name}.{hf_part}.weight", d)
        if config.is_recurrent(layer):
            yield from _delta_rule(config, f"{name}.attention", f"{hf_name}.linear_attn")
        else:
            yield from _attention(config, f"{name}.attention", f"{hf_name}.self_attn")
        yield from shared.feed_forward_tensors(config, layer, name, hf_name, experts)
    yield tensor("trunk.final_norm.weight", f"{prefix}norm.weight", d)
    yield from shared.head_tensors(config, head)


def is_ignorable(hf_name: str) -> bool:
    """Tensors of the second output, and of what reads images."""
    return hf_name.startswith(("mtp.", "model.visual.")) or shared.is_ignorable(hf_name)


def _attention(config: DecoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    """Queries and gates are one matrix, whose rows are grouped by head."""
    d, width, heads, bias = config.d_model, config.head_dim, config.n_heads, config.attention_bias
    for kind, shape in (("weight", (2 * heads * width, d)), ("bias", (2 * heads * width,))):
        if kind == "weight" or bias:
            slices = (
                TensorSlice(f"{name}.query.{kind}", (0, width), groups=heads),
                TensorSlice(f"{name}.gate.{kind}", (width, 2 * width), groups=heads),
            )
            yield HFTensor(f"{hf_name}.q_proj.{kind}", shape, slices)
    for part in ("key", "value"):
        yield from linear(f"{name}.{part}", f"{hf_name}.{part[0]}_proj", config.n_kv_heads * width, d, bias)
    yield from linear(f"{name}.output", f"{hf_name}.o_proj", d, heads * width, bias)
    for part in ("query", "key"):
        yield tensor(f"{name}.{part}_norm.weight", f"{hf_name}.{part[0]}_norm.weight", width)


def _delta_rule(config: DecoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    rule, d = config.delta_rule, config.d_model
    assert rule is not None
    heads, values = rule.n_value_heads, rule.n_value_heads * rule.value_dim
    filtered = 2 * rule.n_key_heads * rule.key_dim + values
    yield tensor(f"{name}.filters", f"{hf_name}.conv1d.weight", filtered, 1, rule.conv_kernel_size)
    yield tensor(f"{name}.decay_bias", f"{hf_name}.dt_bias", heads)
    yield tensor(f"{name}.log_decay_rate", f"{hf_name}.A_log", heads)
    yield tensor(f"{name}.norm.weight", f"{hf_name}.norm.weight", rule.value_dim)
    for part, hf_part, rows in (
        *(("query_key_value", "qkv", filtered), ("gate", "z", values)),
        *(("write_rate", "b", heads), ("decay", "a", heads)),
    ):
        yield from linear(f"{name}.{part}", f"{hf_name}.in_proj_{hf_part}", rows, d, bias=False)
    yield from linear(f"{name}.output", f"{hf_name}.out_proj", d, values, bias=False)


def _without_images(hf_config: HFConfig) -> HFConfig:
    """Without the keys that divide rotary positions among the sides of images: in a text all of them are equal."""
    group = hf_config.get("rope_parameters")
    if not isinstance(group, Mapping):
        return hf_config
    kept = {key: value for key, value in group.items() if key not in ("mrope_section", "mrope_interleaved")}
    return {**hf_config, "rope_parameters": kept}


def _recurrent_layers(hf_config: HFConfig, n_layers: Any, where: str | Path) -> tuple[int, ...]:
    if type(n_layers) is not int:  # reported by the config's own check
        return ()
    types, interval = hf_config.get("layer_types"), hf_config.get("full_attention_interval", 4)
    if types is None:
        if type(interval) is not int or interval < 1:
            raise UserError(f"{where}: `full_attention_interval` is {interval!r}", "it is a count of layers")
        types = [KINDS[(layer + 1) % interval != 0] for layer in range(n_layers)]
    if not isinstance(types, list) or len(types) != n_layers or not all(kind in KINDS for kind in types):
        raise UserError(
            f"{where}: `layer_types` must name one of {', '.join(KINDS)} for each of the {n_layers} layers",
            "Parakit supports these for this architecture",
        )
    return tuple(layer for layer, kind in enumerate(types) if kind == KINDS[1])
