"""Which architectures of llama.cpp are converted: their settings as a config.json, and the names of their tensors.

A family lists the tensors of a layer under llama.cpp's names and the published ones. Some differ in their values too:
llama.cpp interleaves the halves of Llama's queries and keys, stores GPT-2's matrices as (outputs, inputs), and adds 1 to
Gemma's norms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from parakit.checkpoints.gguf.metadata import ModelMetadata
from parakit.checkpoints.gguf.reader import GGUFFile
from parakit.checkpoints.gguf.rope import rope_settings
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_ROTARY_LAYER = {
    "attn_norm": "input_layernorm",
    **{f"attn_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"},
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_NORMS_BEHIND = {  # of what a sublayer gives
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA_LAYER = {**_ROTARY_LAYER, **_NORMS_BEHIND, "ffn_norm": "pre_feedforward_layernorm"}
_MIXTRAL_PARTS = {"gate": "w1", "up": "w3", "down": "w2"}


@dataclass(frozen=True)
class GGUFFamily:
    """How the files of one architecture are written. Names are without `.weight` and `.bias`."""

    settings: Callable[[ModelMetadata], JsonObject]
    """The config.json."""
    layer: Mapping[str, str]
    """Tensor of a layer (after `blk.N.`) -> its published name (after `layer_prefix`)."""
    trunk: Mapping[str, str] = field(
        default_factory=lambda: {
            "token_embd": "model.embed_tokens",
            "output_norm": "model.norm",
            "output": "lm_head",
        }
    )
    layer_prefix: str = "model.layers.{}."
    experts: Mapping[str, str] = field(default_factory=dict)
    """Stacked tensor of a layer's experts -> the published name of one, with its number left open."""
    interleaved: bool = False
    """Rows of queries and keys alternate between the two halves of a head."""
    transposed: frozenset[str] = frozenset()
    """Matrices that are published as (inputs, outputs)."""
    norm_offset: float = 0.0
    """Added to the published weights of norms in the file."""


def family_of(file: GGUFFile) -> tuple[str, GGUFFamily]:
    """The architecture that a file names, and how it is converted. Raises `UserError` for one that is not supported."""
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise CorruptArtifact(f"{file.path}: does not name its architecture", "fetch the file again")
    if name == "llama" and file.metadata.get("llama.expert_count"):
        return name, MIXTRAL
    if name not in FAMILIES:
        raise UserError(
            f"{file.path}: holds a model of the architecture {name!r}",
            f"Parakit converts from GGUF: {', '.join(FAMILIES)}; import the model's original folder, if Parakit loads it",
        )
    return name, FAMILIES[name]


def _rotary(metadata: ModelMetadata, model_type: str, class_name: str) -> JsonObject:
    """The settings that Llama and its descendants share."""
    file, n_heads = metadata.file, metadata.integer("attention.head_count")
    width = metadata.integer("embedding_length")
    if n_heads < 1:
        raise CorruptArtifact(f"{file.path}: `attention.head_count` is {n_heads}", "fetch the file again")
    head_dim = metadata.integer("attention.key_length", width // n_heads)
    value_dim = metadata.integer("attention.value_length", head_dim)
    if value_dim != head_dim:
        raise UserError(
            f"{file.path}: keys have {head_dim} features and values {value_dim}",
            "Parakit's heads have one width: choose another model",
        )
    return {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": n_rows(file),
        "hidden_size": width,
        "num_hidden_layers": metadata.integer("block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": metadata.integer("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "intermediate_size": metadata.integer("feed_forward_length"),
        "hidden_act": "silu",
        "max_position_embeddings": metadata.integer("context_length"),
        "rms_norm_eps": metadata.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope_settings(metadata, head_dim),
        "tie_word_embeddings": OUTPUT not in file.tensors,
    }


def n_rows(file: GGUFFile) -> int:
    """Rows of the embedding: ids that the model has."""
    if EMBEDDING not in file.tensors:
        raise CorruptArtifact(f"{file.path}: has no tensor {EMBEDDING!r}", "fetch the file again")
    return file.tensors[EMBEDDING].shape[0]


def _llama(metadata: ModelMetadata) -> JsonObject:
    """Llama, or Mistral where there is a sliding window: llama.cpp calls both `llama`."""
    tensors, window = metadata.file.tensors, metadata.get("attention.sliding_window")
    if window:
        return _rotary(metadata, "mistral", "MistralForCausalLM") | {"sliding_window": window}
    return _rotary(metadata, "llama", "LlamaForCausalLM") | {
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
    }


def _mixtral(metadata: ModelMetadata) -> JsonObject:
    return _rotary(metadata, "mixtral", "MixtralForCausalLM") | {
        "num_local_experts": metadata.integer("expert_count"),
        "num_experts_per_tok": metadata.integer("expert_used_count"),
        "sliding_window": metadata.get("attention.sliding_window") or None,
    }


def _qwen2(metadata: ModelMetadata) -> JsonObject:
    return _rotary(metadata, "qwen2", "Qwen2ForCausalLM") | {"use_sliding_window": False}


def _qwen3(metadata: ModelMetadata) -> JsonObject:
    return _rotary(metadata, "qwen3", "Qwen3ForCausalLM") | {
        "attention_bias": False,
        "use_sliding_window": False,
    }


def _qwen3_moe(metadata: ModelMetadata) -> JsonObject:
    """llama.cpp always scales the weights of the chosen experts to the sum of 1."""
    return _rotary(metadata, "qwen3_moe", "Qwen3MoeForCausalLM") | {
        "attention_bias": False,
        "num_experts": metadata.integer("expert_count"),
        "num_experts_per_tok": metadata.integer("expert_used_count"),
        "moe_intermediate_size": metadata.integer("expert_feed_forward_length"),
        "norm_topk_prob": bool(metadata.get("expert_weights_norm", True)),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _gpt2(metadata: ModelMetadata) -> JsonObject:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": n_rows(metadata.file),
        "n_embd": metadata.integer("embedding_length"),
        "n_layer": metadata.integer("block_count"),
        "n_head": metadata.integer("attention.head_count"),
        "n_inner": metadata.integer("feed_forward_length"),
        "n_positions": metadata.integer("context_length"),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": metadata.number("attention.layer_norm_epsilon"),
        "tie_word_embeddings": OUTPUT not in metadata.file.tensors,
    }


def _granite(metadata: ModelMetadata) -> JsonObject:
    scales = {
        "attention_multiplier": "attention.scale",
        "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale",
        "logits_scaling": "logit_scale",
    }
    return _rotary(metadata, "granite", "GraniteForCausalLM") | {
        name: metadata.number(key, 1.0) for name, key in scales.items() if metadata.get(key) is not None
    }


def _phi3(metadata: ModelMetadata) -> JsonObject:
    """Two sets of rotary factors are tensors of their own, which are refused by name."""
    config = _rotary(metadata, "phi3", "Phi3ForCausalLM")
    original = metadata.integer("rope.scaling.original_context_length", config["max_position_embeddings"])
    window = metadata.get("attention.sliding_window") or None
    return config | {"original_max_position_embeddings": original, "sliding_window": window}


def _gemma2(metadata: ModelMetadata) -> JsonObject:
    return _gemma(metadata, "gemma2", "Gemma2ForCausalLM", n_layers_of_27b=46) | {
        "attn_logit_softcapping": metadata.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": metadata.number("final_logit_softcapping", 30.0),
    }


def _gemma3(metadata: ModelMetadata) -> JsonObject:
    """Local layers have rotary positions of their own, which are not scaled."""
    config = _gemma(metadata, "gemma3_text", "Gemma3ForCausalLM", n_layers_of_27b=62)
    local = {"rope_type": "default", "rope_theta": metadata.number("rope.freq_base_swa", 10_000.0)}
    return config | {
        "rope_parameters": {"full_attention": config["rope_parameters"], "sliding_attention": local},
        "final_logit_softcapping": metadata.get("final_logit_softcapping"),
    }


def _gemma(metadata: ModelMetadata, model_type: str, class_name: str, *, n_layers_of_27b: int) -> JsonObject:
    """The scale of attention is not in the file: as in llama.cpp it follows from the head's width, but in the largest
    model from the model's.
    """
    config = _rotary(metadata, model_type, class_name)
    largest = config["num_hidden_layers"] == n_layers_of_27b
    del config["hidden_act"]
    return config | {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": metadata.integer("attention.sliding_window"),
        "query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"]
        if largest
        else config["head_dim"],
    }


MIXTRAL = GGUFFamily(
    _mixtral,
    {**_ROTARY_LAYER, "ffn_gate_inp": "block_sparse_moe.gate"},
    experts={
        f"ffn_{part}_exps": f"block_sparse_moe.experts.{{}}.{hf_part}"
        for part, hf_part in _MIXTRAL_PARTS.items()
    },
    interleaved=True,
)
FAMILIES: dict[str, GGUFFamily] = {
    "llama": GGUFFamily(_llama, _ROTARY_LAYER, interleaved=True),
    "qwen2": GGUFFamily(_qwen2, _ROTARY_LAYER),
    "qwen3": GGUFFamily(_qwen3, {**_ROTARY_LAYER, **_QK_NORMS}),
    "qwen3moe": GGUFFamily(
        _qwen3_moe,
        {**_ROTARY_LAYER, **_QK_NORMS, "ffn_gate_inp": "mlp.gate"},
        experts={f"ffn_{part}_exps": f"mlp.experts.{{}}.{part}_proj" for part in _MIXTRAL_PARTS},
    ),
    "gemma2": GGUFFamily(_gemma2, _GEMMA_LAYER, norm_offset=1.0),
    "gemma3": GGUFFamily(_gemma3, {**_GEMMA_LAYER, **_QK_NORMS}, norm_offset=1.0),
    "olmo2": GGUFFamily(
        lambda metadata: _rotary(metadata, "olmo2", "Olmo2ForCausalLM"),
        {**_ROTARY_LAYER, **_QK_NORMS, **_NORMS_BEHIND},
    ),
    "granite": GGUFFamily(_granite, _ROTARY_LAYER, interleaved=True),
    "smollm3": GGUFFamily(
        lambda metadata: _rotary(metadata, "smollm3", "SmolLM3ForCausalLM"), _ROTARY_LAYER, interleaved=True
    ),
    "phi3": GGUFFamily(
        _phi3,
        {**_ROTARY_LAYER, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    ),
    "gpt2": GGUFFamily(
        _gpt2,
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        trunk={
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        layer_prefix="transformer.h.{}.",
        transposed=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
    ),
}
