"""Every decoder shape says the same greedily: cached, uncached, batched with rows of any length, streamed; and in
chunks.
"""

from __future__ import annotations

import pytest
import torch

from parakit.common.seeds import rng
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.steps.model_steps import decode_step, prefill
from parakit.model import DecoderConfig
from parakit.model.transformer_config import RopeScaling

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=12)
TINY = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=24, max_seq_len=40
)
LAYER_NORM = {"norm": "layer", "norm_bias": True, "query_key_norm": False}
SHAPES = {
    "gpt2": TINY.replace(
        positions="learned", n_kv_heads=4, activation="gelu_tanh", gated=False, attention_bias=True,
        attention_output_bias=True, feed_forward_bias=True, **LAYER_NORM,
    ),
    "llama": TINY.replace(
        query_key_norm=False, tie_embeddings=False, rope_theta=500.0,
        rope_scaling=RopeScaling(kind="llama3", factor=4, original_max_seq_len=16),
    ),
    "mistral": TINY.replace(query_key_norm=False, sliding_window=5),
    "alternating": TINY.replace(sliding_window=4, local_layers=(0, 2), local_rope_theta=100.0),
    "qwen2": TINY.replace(query_key_norm=False, attention_bias=True),
    "2017": TINY.replace(
        positions="sinusoidal", post_norm=True, final_norm=False, activation="relu", gated=False,
        embedding_scale=4.0, n_kv_heads=4, **LAYER_NORM,
    ),
    "relative": TINY.replace(
        positions="relative", n_relative_buckets=8, max_relative_distance=16, attention_scale=1.0,
        query_key_norm=False,
    ),
    "relative and local": TINY.replace(positions="relative", n_relative_buckets=8, sliding_window=6),
    "soft caps": TINY.replace(attention_soft_cap=2.0, logit_soft_cap=3.0),
    "experts": TINY.replace(n_experts=4, n_active_experts=2, n_shared_experts=1, d_expert=12, dense_layers=(0,)),
    "linear": TINY.replace(attention="linear", query_key_norm=False),
    "no positions": TINY.replace(positions="none", logit_scale=0.5),
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def model(request, make_model):
    """Drawn in float64, where equal tokens mean equal arithmetic; vectors are drawn too."""
    model = make_model(SHAPES[request.param], torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(std=0.3).add_(0.0 if name.endswith("bias") else 1.0)
    return model


def random_prompts(n, longest=20):
    generator = rng(3, "shapes")
    return [generator.integers(0, 61, length).tolist() for length in generator.integers(1, longest + 1, n)]


@torch.no_grad()
def test_greedy_tokens_are_equal_cached_batched_and_streamed(model):
    prompts = random_prompts(12)
    batched = generate_ids(model, prompts, GREEDY)
    for prompt, tokens in zip(prompts, batched, strict=True):  # one pass over prompt and completion, no cache
        whole = model(torch.tensor([prompt + tokens]))[0, len(prompt) - 1 : -1]
        assert whole.argmax(-1).tolist() == tokens
    assert len({token for tokens in batched for token in tokens}) > 3
    assert [generate_ids(model, [prompt], GREEDY)[0] for prompt in prompts[:4]] == batched[:4]
    assert [list(stream_ids(model, prompt, GREEDY)) for prompt in prompts[:4]] == batched[:4]


@torch.no_grad()
def test_ragged_chunks_and_steps_give_the_logits_of_a_whole_pass(model):
    prompts = random_prompts(5)
    cache = KVCache(model.config, 5, 40, dtype=torch.float64)
    first = prefill(model, cache, prompts)
    chunks = [prompt[:3] for prompt in reversed(prompts)]
    second = prefill(model, cache, chunks)
    cache.select([3, 0, 4])
    third = decode_step(model, cache, torch.arange(3))
    for row, (prompt, chunk) in enumerate(zip(prompts, chunks, strict=True)):
        whole = model(torch.tensor([[*prompt, *chunk]]))[0]
        torch.testing.assert_close(first[row], whole[len(prompt) - 1])
        torch.testing.assert_close(second[row], whole[-1])
    for i, row in enumerate([3, 0, 4]):
        whole = model(torch.tensor([[*prompts[row], *chunks[row], i]]))[0]
        torch.testing.assert_close(third[i], whole[-1])


@torch.no_grad()
def test_tokens_taken_back_leave_no_trace(model):
    prompts = random_prompts(4)
    cache = KVCache(model.config, 4, 40, dtype=torch.float64)
    prefill(model, cache, prompts)
    untouched = decode_step(model, cache, torch.full((4,), 7))
    lengths = [len(prompt) for prompt in prompts]
    cache.truncate(lengths)
    prefill(model, cache, [[1, 2, 3]] * 4)
    cache.truncate(lengths)
    torch.testing.assert_close(decode_step(model, cache, torch.full((4,), 7)), untouched, rtol=0, atol=0)
