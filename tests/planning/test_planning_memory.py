"""The KV cache's bytes, counted from the shape, are those of the tensors that transformers keeps."""

from __future__ import annotations

import pytest
import torch

from parakit.checkpoints import read_config
from parakit.model.config import DecoderConfig, EncoderConfig
from parakit.planning.memory import cache_bytes

transformers = pytest.importorskip("transformers")


def n_bytes(cache: object) -> int:
    layers = cache.layers
    return sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))


def test_a_decoders_cache(tmp_path) -> None:
    config = transformers.Qwen3Config(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        intermediate_size=24,
        max_position_embeddings=32,
    )
    model = transformers.Qwen3ForCausalLM(config)
    model.save_pretrained(tmp_path)
    kept = cache_bytes(read_config(tmp_path), 4)
    for length in (1, 7, 32):
        made = model(torch.zeros(1, length, dtype=torch.int64), use_cache=True).past_key_values
        assert n_bytes(made) == kept.per_token * length
    assert kept.whole == 32 * kept.per_token
    assert kept.per_source_token == 0


def test_an_encoder_decoders_cache_has_two_parts(tmp_path) -> None:
    config = transformers.T5Config(
        vocab_size=40,
        d_model=16,
        d_kv=6,
        d_ff=24,
        num_layers=1,
        num_decoder_layers=2,
        num_heads=3,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(tmp_path)
    kept = cache_bytes(read_config(tmp_path), 4)
    source, target = torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64)
    made = model(input_ids=source, decoder_input_ids=target, use_cache=True).past_key_values
    assert n_bytes(made.self_attention_cache) == 5 * kept.per_token
    assert n_bytes(made.cross_attention_cache) == 9 * kept.per_source_token


def test_windows_bound_the_longest_text_and_an_encoder_keeps_nothing() -> None:
    shape = {
        "vocab_size": 9,
        "d_model": 8,
        "n_layers": 4,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 4,
        "d_ff": 8,
    }
    config = DecoderConfig(**shape, max_seq_len=100, sliding_window=10, local_layers=(0, 1, 2))
    kept = cache_bytes(config, 2)
    assert kept.per_token == 4 * 2 * 4 * 2
    assert kept.whole == (3 * 10 + 100) * 2 * 4 * 2
    assert cache_bytes(DecoderConfig(**shape, attention="linear"), 2).whole == 0
    assert cache_bytes(EncoderConfig(**shape), 2) is None
