"""What the sides of the benchmark `engine_cpu` compute: shapes of models, prompts, requests; and files for the peers.

No side imports more of this than it needs, and llama.cpp's runs without it, as its environment has no Parakit.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

WEIGHTS = {"fp32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}  # and what llama.cpp calls them
LLAMA_FILE_TYPES = {"BF16": 32, "Q8_0": 7, "Q4_0": 2}  # `llama_ftype`


class Shape(NamedTuple):
    """A decoder of Llama's kind."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_ff: int
    vocab_size: int


SHAPES = {"1b": Shape(22, 2048, 32, 4, 5632, 32000), "tiny": Shape(2, 64, 4, 2, 96, 128)}


class Request(NamedTuple):
    """One of many that run at once."""

    prompt: list[int]
    n_new: int


def prompt_ids(n: int, vocab_size: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    draw = random.Random(seed)
    return [draw.randrange(vocab_size // 10, vocab_size) for _ in range(n)]


def requests(vocab_size: int, n: int, longest: int) -> list[Request]:
    """Prompts of mixed lengths, an eighth of `longest` to all of it, and completions of a half to all of it."""
    lengths = [max(2, longest * (1 + i % 8) // 8) for i in range(n)]
    new = [max(2, longest * (9 + i % 8) // 16) for i in range(n)]
    random.Random(1).shuffle(lengths)
    return [
        Request(prompt_ids(length, vocab_size, seed=i), n_new)
        for i, (length, n_new) in enumerate(zip(lengths, new, strict=True))
    ]


def write_random_model(folder: Path, shape: Shape) -> None:
    """A folder in transformers' layout: bf16 weights, drawn from a normal distribution."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    head_dim = shape.d_model // shape.n_heads

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size).mul_(0.02).bfloat16()

    tensors = {"model.embed_tokens.weight": draw(shape.vocab_size, shape.d_model)}
    for i in range(shape.n_layers):
        sizes = {
            "self_attn.q_proj": (shape.d_model, shape.d_model),
            "self_attn.k_proj": (shape.n_kv_heads * head_dim, shape.d_model),
            "self_attn.v_proj": (shape.n_kv_heads * head_dim, shape.d_model),
            "self_attn.o_proj": (shape.d_model, shape.d_model),
            "mlp.gate_proj": (shape.d_ff, shape.d_model),
            "mlp.up_proj": (shape.d_ff, shape.d_model),
            "mlp.down_proj": (shape.d_model, shape.d_ff),
        }
        tensors |= {f"model.layers.{i}.{name}.weight": draw(*size) for name, size in sizes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{i}.{norm}.weight"] = torch.ones(shape.d_model).bfloat16()
    tensors["model.norm.weight"] = torch.ones(shape.d_model).bfloat16()
    tensors["lm_head.weight"] = draw(shape.vocab_size, shape.d_model)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def write_gguf(folder: Path, path: Path) -> None:
    """A folder of Llama's kind as a float32 GGUF file without a vocabulary, for llama.cpp."""
    import gguf
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    n_heads, n_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    rope = config.get("rope_parameters") or config
    writer = gguf.GGUFWriter(path, "llama", use_temp_file=True)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // n_heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                continue
            tensor = file.get_tensor(name).float()
            heads = n_heads if "q_proj" in name else n_kv_heads if "k_proj" in name else 0
            if heads:  # this format rotates neighbouring features, the folder halves of a head
                tensor = tensor.view(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
            writer.add_tensor(_gguf_name(name), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, number, part = stem.split(".", 3)
        return f"blk.{number}.{GGUF_NAMES[part]}.weight"
    return f"{GGUF_NAMES[stem]}.weight"


def run_task(tasks: dict[str, Callable[[dict[str, Any]], dict[str, Any]]], arguments: list[str]) -> None:
    """`TASK SPEC`: run one task on a JSON object, and print the JSON object that it returns."""
    print(json.dumps(tasks[arguments[0]](json.loads(arguments[1]))), flush=True)
