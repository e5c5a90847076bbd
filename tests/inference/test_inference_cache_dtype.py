"""The type of the cache follows the weights or the settings, and every way of completing a prompt has the same one."""

from __future__ import annotations

import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.cache_dtype import resolve_cache_dtype, to_cache
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.generation.steps.model_steps import (
    allocate_cache,
    decode_step,
    make_decode_step,
    prefill,
)
from parakit.model import DecoderConfig, LanguageModel
from parakit.model.quantized import QuantScheme, make_plan, quantize_modules

CONFIG = DecoderConfig(
    vocab_size=61, d_model=32, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=16, d_ff=48, max_seq_len=160
)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=10)
PROMPTS = [[5, 9, 3, 3], [7] * 70, [1, 2, 3, 4, 5, 6, 7, 8, 9]]


@pytest.fixture(scope="module")
def model():
    """With int8 weights."""
    torch.manual_seed(0)
    plain = LanguageModel(CONFIG).eval()
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
    scheme = QuantScheme(bits=8)
    quantize_modules(plain, make_plan(plain, scheme, embeddings=scheme, head=scheme))
    return plain


def engine_ids(model, settings=None):
    engine = Engine(model, config=settings)
    handles = [engine.submit(Request(token_ids=prompt, sampling=GREEDY)) for prompt in PROMPTS]
    engine.run()
    return [list(handle.completions[0].token_ids) for handle in handles], engine.statistics.cache_dtype


def test_quantized_weights_have_a_float16_cache_unless_the_settings_choose_another(model):
    assert Engine(model).statistics.cache_dtype == "float16"
    assert allocate_cache(model, [[1]], 3).keys[0].dtype == torch.float16
    plain = LanguageModel(CONFIG)
    assert resolve_cache_dtype(plain, "auto") == torch.float32
    assert resolve_cache_dtype(plain.to(torch.bfloat16), "auto") == torch.bfloat16
    for choice in ("float32", "bfloat16", "int8", "model"):
        expected = "float32" if choice == "model" else choice
        assert Engine(model, config=EngineConfig(cache_dtype=choice)).statistics.cache_dtype == expected


def test_completions_are_equal_alone_batched_streamed_chunked_and_in_pages(model):
    expected = [generate_ids(model, [prompt], GREEDY)[0] for prompt in PROMPTS]
    assert generate_ids(model, PROMPTS, GREEDY) == expected
    assert [list(stream_ids(model, prompt, GREEDY)) for prompt in PROMPTS] == expected
    assert engine_ids(model) == (expected, "float16")
    assert engine_ids(model, EngineConfig(page_size=3, max_step_tokens=5, max_rows=2))[0] == expected
    beams = beam_search(model, PROMPTS, BeamConfig(n_beams=1, max_new_tokens=10))
    assert [found[0].token_ids for found in beams] == expected
    wide = generate_ids(model, PROMPTS, GREEDY.replace(cache_dtype="float32"))
    assert wide == engine_ids(model, EngineConfig(cache_dtype="float32"))[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pytorch_computes_the_same_with_such_a_cache(model, dtype, monkeypatch):
    """Both round the same numbers; where these differ in the last place, one may be rounded to the neighbour."""
    logits = []
    for switch in ("on", "off"):
        monkeypatch.setenv("PARAKIT_KERNELS", switch)
        cache = allocate_cache(model, PROMPTS, 5, dtype)
        found = [prefill(model, cache, PROMPTS)]
        step = make_decode_step(model)
        found += [step(cache, torch.tensor([3, 4, n])) for n in range(4)]
        logits.append(torch.stack(found))
    atol = (2e-3 if dtype == "float16" else 1.6e-2) * logits[1].abs().max().item()
    torch.testing.assert_close(logits[0], logits[1], atol=atol, rtol=0)


def test_it_is_close_to_a_float32_cache(model):
    logits = []
    for dtype in ("float32", "float16"):
        cache = allocate_cache(model, [PROMPTS[1]], 2, dtype)
        prefill(model, cache, [PROMPTS[1]])
        logits.append(decode_step(model, cache, torch.tensor([3])).log_softmax(-1))
    assert (logits[0].exp() * (logits[0] - logits[1])).sum() < 1e-4  # nats


def test_large_numbers_are_cut_to_float16s_range_and_nan_stays():
    x = torch.tensor([1e6, -1e30, 1.0, float("nan")])
    found = to_cache(x, torch.float16)
    assert found[:3].tolist() == [65504.0, -65504.0, 1.0]
    assert found[3].isnan()


def test_a_cache_that_cannot_be_had_is_refused(model):
    engine = Engine(model)
    with pytest.raises(UserError, match="wants a cache in float32, and the engine's is in float16"):
        engine.submit(Request(token_ids=[1], sampling=GREEDY.replace(cache_dtype="float32")))
    with pytest.raises(UserError, match="int8 needs a paged cache"):
        beam_search(model, [[1]], BeamConfig(n_beams=2, max_new_tokens=2, cache_dtype="int8"))
