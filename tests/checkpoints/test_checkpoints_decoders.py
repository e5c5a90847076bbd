"""Decoders of every architecture: the logits, the greedy tokens and the folders of transformers."""

import os

import pytest
import torch

from parakit.checkpoints import load_model, read_config
from tests.checkpoints.conformance import (
    assert_bf16_close,
    assert_decoder_conforms,
    assert_round_trip,
    assert_same_greedy_tokens,
    random_ids,
    reference_model,
    saved,
)
from tests.short_suite import shortened

transformers = pytest.importorskip("transformers")

SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
GPT2_SIZES = {
    **{"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
LLAMA3_ROPE = {
    **{"rope_type": "llama3", "rope_theta": 5e4, "factor": 4.0, "original_max_position_embeddings": 16},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
# name -> transformers' prefix and what the tiny model has beyond the sizes
CASES = {
    "gpt2": ("GPT2", {}),
    "gpt2-variants": ("GPT2", {"n_inner": 40, "activation_function": "relu", "tie_word_embeddings": False}),
    "gpt2-unscaled": ("GPT2", {"scale_attn_weights": False}),
    "llama": ("Llama", {}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama-multi-head": ("Llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-3}),
    "llama-wide-heads": ("Llama", {"head_dim": 12, "num_key_value_heads": 1, "hidden_act": "gelu"}),
    "llama3-rope": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "linear-rope": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}}),
    "yarn-rope": ("Llama", {"rope_parameters": YARN}),
    "yarn-rope-explicit": ("Llama", {"rope_parameters": YARN | {"attention_factor": 0.7, "beta_fast": 20.0}}),
    "yarn-rope-scales": ("Llama", {"rope_parameters": YARN | {"mscale": 1.5, "mscale_all_dim": 0.5}}),
    "mistral": ("Mistral", {"sliding_window": 6}),
    "mistral-no-window": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    "qwen3-biases": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "qwen3-window": (
        "Qwen3",
        {"head_dim": 8, "use_sliding_window": True, "sliding_window": 5, "layer_types": ALTERNATING},
    ),
    "mixtral": ("Mixtral", {"num_local_experts": 4}),
    "mixtral-window": ("Mixtral", {"num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 6}),
    "qwen3-moe": ("Qwen3Moe", EXPERTS),
    "qwen3-moe-some": ("Qwen3Moe", EXPERTS | {"mlp_only_layers": [1], "norm_topk_prob": True}),
    "qwen3-moe-sparse": ("Qwen3Moe", EXPERTS | {"decoder_sparse_step": 2, "attention_bias": True}),
}

_QWEN3 = {"head_dim": 8}
_MOE = EXPERTS | {"norm_topk_prob": True}
# the same for more published checkpoints, in `make test-long`
MORE_CASES = {
    "gpt2-medium": ("GPT2", {"n_layer": 4, "n_head": 2}),
    "gpt2-xl": ("GPT2", {"n_head": 8, "reorder_and_upcast_attn": False}),
    "distilgpt2": ("GPT2", {"n_layer": 2}),
    "dialo-gpt": ("GPT2", {"n_positions": 64, "layer_norm_epsilon": 1e-3}),
    "japanese-gpt2": ("GPT2", {"n_inner": 48, "tie_word_embeddings": False}),
    "gpt2-gelu": ("GPT2", {"activation_function": "gelu"}),
    "gpt2-silu": ("GPT2", {"activation_function": "silu", "n_inner": 24}),
    "tiny-llama": ("Llama", {"num_key_value_heads": 1, "rms_norm_eps": 1e-5}),
    "smollm2": ("Llama", {"tie_word_embeddings": True, "rope_theta": 1e5}),
    "mistral-v0.3": ("Mistral", {"sliding_window": None, "rope_theta": 1e6}),
    "mistral-nemo": ("Mistral", {"sliding_window": None, "head_dim": 12}),
    "zephyr": ("Mistral", {"sliding_window": 16}),
    "mathstral": ("Mistral", {"sliding_window": None, "num_key_value_heads": 1}),
    "mistral-multi-head": ("Mistral", {"sliding_window": 9, "num_key_value_heads": 4}),
    "mistral-tied": ("Mistral", {"sliding_window": 7, "tie_word_embeddings": True}),
    "mistral-gelu": ("Mistral", {"sliding_window": 6, "hidden_act": "gelu"}),
    "yarn-mistral": ("Mistral", {"sliding_window": 12, "rope_parameters": YARN}),
    "qwen2.5-0.5b": ("Qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen2.5-7b": ("Qwen2", {"num_key_value_heads": 1}),
    "qwen2.5-yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen1.5": ("Qwen2", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "qwen2-all-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}),
    "qwen2-unused-window": ("Qwen2", {"use_sliding_window": False, "sliding_window": 4}),
    "qwen2-math": ("Qwen2", {"num_hidden_layers": 2, "rope_theta": 1e4}),
    "qwen2-gelu": ("Qwen2", {"hidden_act": "gelu"}),
    "qwen3-8b": ("Qwen3", {"head_dim": 16, "rope_theta": 1e6}),
    "qwen3-32b": ("Qwen3", {"head_dim": 16, "num_key_value_heads": 1}),
    "qwen3-yarn": ("Qwen3", _QWEN3 | {"rope_parameters": YARN}),
    "qwen3-multi-head": ("Qwen3", _QWEN3 | {"num_key_value_heads": 4}),
    "qwen3-epsilon": ("Qwen3", _QWEN3 | {"rms_norm_eps": 1e-3}),
    "qwen3-two-layers": ("Qwen3", _QWEN3 | {"num_hidden_layers": 2, "tie_word_embeddings": True}),
    "qwen3-gelu": ("Qwen3", _QWEN3 | {"hidden_act": "gelu"}),
    "mixtral-8x7b": ("Mixtral", {"num_local_experts": 8, "rope_theta": 1e6}),
    "mixtral-8x22b": ("Mixtral", {"num_local_experts": 8, "num_key_value_heads": 1}),
    "mixtral-4-of-4": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 4}),
    "mixtral-3-of-5": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 3}),
    "mixtral-tied": ("Mixtral", {"num_local_experts": 2, "tie_word_embeddings": True}),
    "mixtral-multi-head": ("Mixtral", {"num_local_experts": 3, "num_key_value_heads": 4}),
    "mixtral-wide-heads": ("Mixtral", {"num_local_experts": 3, "head_dim": 12}),
    "mixtral-yarn": ("Mixtral", {"num_local_experts": 3, "head_dim": 8, "rope_parameters": YARN}),
    "qwen3-30b-a3b": ("Qwen3Moe", _MOE | {"num_experts": 8, "num_experts_per_tok": 3}),
    "qwen3-235b-a22b": ("Qwen3Moe", _MOE | {"num_key_value_heads": 1, "rope_theta": 1e6}),
    "qwen3-coder-moe": ("Qwen3Moe", _MOE | {"rope_theta": 1e7, "head_dim": 16}),
    "qwen3-moe-yarn": ("Qwen3Moe", _MOE | {"rope_parameters": YARN}),
    "qwen3-moe-tied": ("Qwen3Moe", _MOE | {"tie_word_embeddings": True}),
    "qwen3-moe-one-expert": ("Qwen3Moe", _MOE | {"num_experts_per_tok": 1}),
    "qwen3-moe-first-dense": ("Qwen3Moe", _MOE | {"mlp_only_layers": [0, 2]}),
}


@pytest.fixture(autouse=True)
def threads():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def tiny(prefix: str, changes: dict, head: str = "ForCausalLM"):
    """A transformers model, tiny and random."""
    sizes = GPT2_SIZES if prefix == "GPT2" else SIZES
    head = "LMHeadModel" if (prefix, head) == ("GPT2", "ForCausalLM") else head
    config = getattr(transformers, f"{prefix}Config")(**sizes | changes)
    return reference_model(getattr(transformers, f"{prefix}{head}"), config)


@pytest.mark.parametrize(
    "case", [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in MORE_CASES)]
)
def test_logits_and_folders_are_those_of_transformers(tmp_path, case):
    reference = tiny(*{**CASES, **MORE_CASES}[case])
    folder = saved(reference, tmp_path / "f")
    model, tokenizer = load_model(folder)
    assert tokenizer is None
    assert not model.training
    assert_decoder_conforms(model, reference)
    ids = random_ids(97, 3, 24)
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).logits)
    assert read_config(tmp_path / "g") == read_config(folder) == model.config
    if case in MORE_CASES:  # of many experts the rounding chooses others too often to say anything
        return
    exact = model(ids)
    half, _ = load_model(folder, dtype="bfloat16")
    with torch.no_grad():
        assert_bf16_close(half(ids), reference.to(torch.bfloat16)(ids).logits, exact)


@shortened(  # the plain ones say the same 64 tokens in tests/inference/test_inference_transformers.py
    "case",
    [case for case in CASES if case.split("-")[-1] in ("window", "rope", "moe", case)],
    [case for case in CASES if case.split("-")[-1] in ("window", "rope", "moe")],
)
def test_greedy_tokens_are_those_of_transformers(tmp_path, case):
    reference = tiny(*CASES[case])
    model, _ = load_model(saved(reference, tmp_path / "f"))
    assert_same_greedy_tokens(model, reference)
