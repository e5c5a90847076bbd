"""Tiny GGUF files, written with the `gguf` package's own writer and names of tensors, from models of transformers."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.checkpoints.conformance import tensors_of
from tests.sample_text import sentences

CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
PERMUTED = (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.GRANITE, gguf.MODEL_ARCH.SMOLLM3)
Fields = Callable[[GGUFWriter], None]


@lru_cache(maxsize=1)
def sentencepiece_bpe_file() -> bytes:
    """The content of a Llama-like tokenizer.model of 360 pieces, trained here; skips without sentencepiece."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(1, 60).splitlines()),
        model_writer=model,
        vocab_size=360,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return model.getvalue()


@lru_cache(maxsize=1)
def byte_bpe() -> Tokenizer:
    """A byte-level BPE of 300 tokens, three of them control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=CONTROL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sentences(1, 40)], trainer)
    return tokenizer


def merges_of(tokenizer: Tokenizer) -> list[str]:
    """Its merges, as GGUF has them."""
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]


def add_byte_bpe(writer: GGUFWriter, n_padding: int = 0, pre: str | None = "gpt-2") -> None:
    """`byte_bpe`, with `n_padding` unused tokens behind it, as llama.cpp's converter writes it."""
    tokenizer = byte_bpe()
    n = tokenizer.get_vocab_size()
    tokens = [tokenizer.id_to_token(i) for i in range(n)] + [f"[PAD{n + i}]" for i in range(n_padding)]
    types = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (n - 3) + [TokenType.UNUSED] * n_padding
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges_of(tokenizer))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def rotary_fields(writer: GGUFWriter, config: Any) -> None:
    """What the converter writes for Llama and its descendants."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if n_experts := getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def write_gguf(
    path: Path,
    architecture: str,
    fields: Fields,
    tensors: Mapping[str, np.ndarray],
    kinds: Mapping[str, GGMLQuantizationType] | None = None,
    tokenizer: Fields = add_byte_bpe,
) -> Path:
    """A file of `tensors` under llama.cpp's names; those that `kinds` names are quantized so, the others float32."""
    writer = GGUFWriter(path, architecture)
    fields(writer)
    tokenizer(writer)
    for name, weights in tensors.items():
        kind = (kinds or {}).get(name)
        if kind is None:
            writer.add_tensor(name, np.ascontiguousarray(weights, np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_cpp_tensors(folder: Path, config: Any, architecture: gguf.MODEL_ARCH) -> dict[str, np.ndarray]:
    """The tensors of a folder as llama.cpp's converter names, stacks, transposes and permutes them."""
    n_layers = config.num_hidden_layers
    names = gguf.get_tensor_name_map(architecture, n_layers)
    stacks: dict[str, dict[int, np.ndarray]] = {}
    found = {}
    for hf_name, tensor in tensors_of(folder).items():
        weights = tensor.numpy()
        if architecture in PERMUTED:
            weights = _permuted(hf_name, weights, config)
        if architecture == gguf.MODEL_ARCH.GPT2 and weights.ndim == 2 and ".h." in hf_name:
            weights = weights.T
        if architecture in (gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3) and hf_name.endswith(
            "norm.weight"
        ):
            weights = weights + np.float32(1)
        before, _, after = hf_name.partition(".experts.")
        if after:
            expert, part = after.split(".", 1)
            joined = f"{before}.experts.{part}".replace("model.layers", "layers").replace(
                "block_sparse_moe", "feed_forward"
            )
            if architecture == gguf.MODEL_ARCH.QWEN3MOE:
                joined = f"{before}.experts.{part}"
            stacks.setdefault(joined, {})[int(expert)] = weights
            continue
        found[_name(names, hf_name)] = weights
    for hf_name, experts in stacks.items():
        found[_name(names, hf_name)] = np.stack([experts[i] for i in range(len(experts))])
    return found


def _name(names: gguf.TensorNameMap, hf_name: str) -> str:
    name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
    assert name is not None, hf_name
    return name


def _permuted(hf_name: str, weights: np.ndarray, config: Any) -> np.ndarray:
    n = config.num_attention_heads if ".q_proj." in hf_name else config.num_key_value_heads
    if ".q_proj." in hf_name or ".k_proj." in hf_name:
        halves = weights.reshape(n, 2, len(weights) // n // 2, *weights.shape[1:])
        return halves.swapaxes(1, 2).reshape(weights.shape)
    return weights
