"""The compiled forward pass computes what PyTorch does, for every shape of decoder that it accepts."""

from __future__ import annotations

import pytest
import torch

from parakit.checkpoints import load_model
from parakit.common.seeds import rng
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.native_forward import NativeForward, PagedTensors, can_run_natively
from parakit.model import DecoderConfig, LanguageModel
from parakit.model.kernels import load_kernels
from parakit.model.transformer_config import RopeScaling

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C++ compiler")

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=8)
TINY = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=24, max_seq_len=150
)
LAYER_NORM = {"norm": "layer", "norm_bias": True, "query_key_norm": False}
BIASES = {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True}
SHAPES = {
    "qwen3": TINY,
    "gpt2": TINY.replace(positions="learned", n_kv_heads=4, activation="gelu_tanh", gated=False, **BIASES, **LAYER_NORM),
    "llama": TINY.replace(
        query_key_norm=False, tie_embeddings=False, rope_scaling=RopeScaling(kind="llama3", factor=4, original_max_seq_len=16)
    ),
    "mistral": TINY.replace(query_key_norm=False, sliding_window=5),
    "alternating": TINY.replace(sliding_window=70, local_layers=(0, 2), local_rope_theta=100.0),
    "2017": TINY.replace(
        positions="sinusoidal", post_norm=True, final_norm=False, activation="relu", gated=False, embedding_scale=4.0,
        n_kv_heads=4, **LAYER_NORM,
    ),
    "olmo2": TINY.replace(sublayer_norm="output", query_key_norm_shape="width"),
    "gemma2": TINY.replace(
        sublayer_norm="both", zero_centered_norm=True, attention_soft_cap=5.0, logit_soft_cap=4.0, embedding_scale=4.0,
        activation="gelu_tanh", sliding_window=6, local_layers=(0, 2),
    ),
    "neox": TINY.replace(parallel_residual=True, rotary_dim=2, gated=False, activation="gelu", **BIASES, **LAYER_NORM),
    "stablelm": TINY.replace(
        parallel_residual=True, shared_norm=True, norm="layer", query_key_norm_shape="heads", lm_head_bias=True
    ),
    "sinks": TINY.replace(attention_sinks=True, query_key_norm=False, sliding_window=5, local_layers=(1,)),
    "granite": TINY.replace(residual_scale=0.3, attention_scale=0.2, embedding_scale=3.0, logit_scale=0.2),
    "no rope": TINY.replace(no_rope_layers=(1,), activation="squared_relu", gated=False),
    "widths of no whole vectors": TINY.replace(d_model=40, head_dim=20, d_ff=72),
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def model(request, make_model):
    """In float32, with vectors drawn too."""
    model = make_model(SHAPES[request.param])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(std=0.3).add_(0.0 if name.endswith("bias") else 1.0)
    return model


def new_cache(config, page_size=16, n_pages=20, dtype=torch.float32, n_rows=2):
    """Pages in a shuffled order, enough for `n_rows` rows of `max_seq_len`."""
    pages_of_row = -(-config.max_seq_len // page_size)
    n_pages = max(n_pages, n_rows * pages_of_row)
    table = torch.from_numpy(
        rng(1, "pages").permutation(n_pages)[: n_rows * pages_of_row].reshape(n_rows, -1)
    ).int()
    shape = (n_pages, config.n_kv_heads, page_size, config.head_dim)
    layers = range(config.n_layers)
    scales = (
        [[torch.zeros(shape[:3]) for _ in layers] for _ in range(2)] if dtype == torch.int8 else [None, None]
    )
    tensors = [[torch.zeros(shape, dtype=dtype) for _ in layers] for _ in range(2)]
    return PagedTensors(*tensors, [table.contiguous()] * config.n_layers, *scales)


def random_ids(n, vocab_size=61):
    return rng(5, "native").integers(0, vocab_size, n).tolist()


@torch.no_grad()
def test_logits_are_pytorchs_and_do_not_depend_on_how_tokens_are_cut_or_batched(model):
    ids, n = random_ids(140), 140
    expected = model.double()(torch.tensor([ids]))[0]
    model.float()
    forward = NativeForward(model)
    cache = new_cache(model.config)
    whole = forward(ids, range(n), [1] * n, cache.describe(), range(n))
    assert (whole - expected).abs().max() < 5e-5 * expected.abs().max()
    cache, chunks, start = new_cache(model.config).describe(), [], 0
    for size in (1, 2, 3, 1, 4, 7, 100, 22):
        at = range(start, start + size)
        chunks.append(forward([ids[i] for i in at], at, [0] * size, cache, range(size)))
        start += size
    assert torch.equal(torch.cat(chunks), whole)
    cache = new_cache(model.config, page_size=150).describe()  # two rows in one call, one behind the other
    for i in range(30):
        rows = [0, 1] if i >= 10 else [0]
        positions = [i, i - 10][: len(rows)]
        logits = forward([ids[p] for p in positions], positions, rows, cache, range(len(rows)))
        assert torch.equal(logits, whole[positions])


def test_completions_are_those_of_whole_passes(model):
    assert can_run_natively(model)
    prompts = [random_ids(n) for n in (1, 9, 4, 17, 9)]
    batched = generate_ids(model, prompts, GREEDY)
    assert batched == [generate_ids(model, [prompt], GREEDY)[0] for prompt in prompts]
    for prompt, completion in zip(prompts, batched, strict=True):
        with torch.no_grad():
            logits = model.double()(torch.tensor([prompt + completion]))[0, len(prompt) - 1 : -1]
        model.float()
        lead = logits.amax(-1) - logits.gather(-1, torch.tensor(completion)[:, None])[:, 0]
        assert lead.max() < 1e-4 * logits.abs().max()  # the best, or a tie within rounding


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004), (torch.int8, 0.06)]
)
def test_a_cache_in_lower_precision_changes_little(make_model, dtype, tolerance):
    model, ids = make_model(TINY.replace(head_dim=16)), random_ids(80)
    forward = NativeForward(model)
    whole = forward(ids, range(80), [0] * 80, new_cache(model.config).describe(), range(80))
    cache = new_cache(model.config, dtype=dtype)
    rounded = forward(ids, range(80), [0] * 80, cache.describe(), range(80))
    assert 0 < (rounded - whole).abs().mean() < tolerance * whole.abs().mean()
    if dtype == torch.int8:
        exact = new_cache(model.config)
        forward(ids, range(80), [0] * 80, exact.describe(), [])
        largest = exact.keys[0].abs().amax(-1)
        torch.testing.assert_close(cache.key_scales[0], largest / 127)
        error = (cache.keys[0] * cache.key_scales[0][..., None] - exact.keys[0]).abs().amax(-1)
        assert (error <= 0.501 * cache.key_scales[0]).all()


def test_bfloat16_weights_are_read_as_they_are(make_model):
    model, ids = make_model(dtype=torch.bfloat16), random_ids(40)
    with torch.no_grad():
        expected = make_model(dtype=torch.bfloat16).double()(torch.tensor([ids]))[0]
    logits = NativeForward(model)(ids, range(40), [0] * 40, new_cache(model.config).describe(), range(40))
    assert (logits - expected).abs().max() < 5e-5 * expected.abs().max()


def test_a_training_step_and_a_moved_parameter_are_seen(make_model):
    model, ids = make_model(TINY), random_ids(20)
    forward, cache = NativeForward(model), new_cache(TINY).describe()
    for change in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                if change == 1:
                    parameter.mul_(0.9)
                elif change == 2:
                    parameter.data = parameter.data * 1.1
            expected = model(torch.tensor([ids]))[0]
        logits = forward(ids, range(20), [0] * 20, cache, range(20))
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


def test_what_the_kernels_do_not_compute_is_left_to_pytorch(make_model):
    class Wrapped(torch.nn.Linear):
        """What an adapter looks like from outside."""

    assert can_run_natively(make_model())
    assert not can_run_natively(make_model(dtype=torch.float64))
    wrapped, watched, dropping = make_model(), make_model(), make_model(TINY.replace(dropout=0.1))
    wrapped.trunk.blocks[1].feed_forward.up = Wrapped(16, 24, bias=False)
    assert not can_run_natively(wrapped)
    watched.trunk.blocks[0].attention.register_forward_hook(lambda *_: None)
    assert not can_run_natively(watched)
    assert can_run_natively(dropping)
    assert not can_run_natively(dropping.train())
    for settings in (
        {"n_experts": 4},
        {"positions": "relative"},
        {"attention": "linear", "query_key_norm": False},
    ):
        assert not can_run_natively(make_model(TINY.replace(**settings)))


@pytest.mark.parametrize(("token_id", "position"), [(61, 0), (-1, 0), (5, 150), (5, -1)])
def test_ids_and_positions_that_do_not_exist_are_refused(make_model, token_id, position):
    forward, cache = NativeForward(make_model(TINY)), new_cache(TINY)
    with pytest.raises(ValueError, match="outside the vocabulary" if position == 0 else "beyond"):
        forward([token_id], [position], [0], cache.describe(), [0])
    cache.page_tables[0][0, 0] = -1
    with pytest.raises(ValueError, match="page is missing"):
        forward([5], [0], [0], cache.describe(), [0])


@pytest.mark.long
def test_the_real_models_logits_are_pytorchs(smollm2_folder):
    model, _ = load_model(smollm2_folder)
    assert isinstance(model, LanguageModel)
    ids = rng(7, "real").integers(0, model.config.vocab_size, 150).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0]
    forward, cache = NativeForward(model), new_cache(model.config.replace(max_seq_len=160)).describe()
    whole = forward(ids, range(150), [0] * 150, cache, range(150))
    assert (whole - expected).abs().max() < 1e-4 * expected.abs().max()
    assert torch.equal(whole.argmax(-1), expected.argmax(-1))
    steps = [forward([ids[i]], [i], [1], cache, [0]) for i in range(40)]
    assert torch.equal(torch.cat(steps), whole[:40])
