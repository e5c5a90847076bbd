"""Targets are the same greedily: cached or not, batched with sources of any length or alone; the source is read
once; limits are named.
"""

from __future__ import annotations

import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.seq_to_seq import (
    DecoderView,
    beam_search_sequences,
    generate_sequences,
    translate,
)
from parakit.model import DecoderConfig, EncoderConfig, EncoderDecoderConfig, SequenceToSequence

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=12)
SIDE = {"vocab_size": 61, "d_model": 16, "n_layers": 2, "head_dim": 4, "d_ff": 24, "max_seq_len": 32}
MANY = {**SIDE, "n_heads": 4, "n_kv_heads": 4}
RELATIVE = {
    "positions": "relative",
    "n_relative_buckets": 8,
    "max_relative_distance": 16,
    "attention_scale": 1.0,
}
BIASED = {"norm": "layer", "norm_bias": True, "attention_bias": True, "attention_output_bias": True}
ORIGINAL = {"post_norm": True, "final_norm": False, "gated": False, "feed_forward_bias": True, **BIASED}
SHAPES = {
    "rotary, grouped": ({**SIDE, "n_heads": 4, "n_kv_heads": 2}, {}),
    "t5": ({**MANY, **RELATIVE, "norm": "rms", "embedding_norm": False}, {"activation": "gelu_tanh"}),
    "bart": ({**MANY, **ORIGINAL, "positions": "learned", "position_offset": 2}, {"lm_head_bias": True}),
    "2017": ({**MANY, **ORIGINAL, "positions": "sinusoidal", "embedding_scale": 4.0}, {"activation": "relu"}),
    "experts": ({**MANY, "n_experts": 4, "d_expert": 8}, {}),
}  # fmt: skip


def build(name: str) -> SequenceToSequence:
    """Drawn in float64, where equal tokens mean equal arithmetic; `both` sides, then the decoder's own."""
    both, own = SHAPES[name]
    torch.manual_seed(0)
    config = EncoderDecoderConfig(
        encoder=EncoderConfig(**both), decoder=DecoderConfig(**{"query_key_norm": False} | both | own)
    )
    model = SequenceToSequence(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 * parameter.shape[-1] ** -0.5)
            else:
                parameter.normal_(std=0.3).add_(0.0 if parameter_name.endswith("bias") else 1.0)
    return model.to(torch.float64).eval()


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    return build(request.param)


@pytest.fixture(scope="module")
def small():
    return build("rotary, grouped")


def random_sources(n, longest=20):
    generator = rng(5, "sources")
    return [generator.integers(0, 61, length).tolist() for length in generator.integers(1, longest + 1, n)]


@torch.no_grad()
def test_targets_are_equal_cached_or_not_batched_or_alone(model):
    sources = random_sources(24)
    batched = generate_sequences(model, sources, GREEDY)
    start = model.config.decoder_start_id
    for source, target in zip(sources, batched, strict=True):  # one pass over source and target, no cache
        whole = model(torch.tensor([source]), torch.tensor([[start, *target[:-1]]]))[0]
        assert whole.argmax(-1).tolist() == target
    assert len(set(map(tuple, batched))) > 3  # what is written depends on what was read
    assert generate_sequences(model, sources[::-1], GREEDY, micro_batch_size=5) == batched[::-1]
    assert [generate_sequences(model, [source], GREEDY)[0] for source in sources[:6]] == batched[:6]


def test_rows_that_finish_leave_with_their_source_and_the_others_do_not_notice(model):
    sources = random_sources(30)
    plain, expected = generate_sequences(model, sources, GREEDY), []
    stop_ids = {target[2 + 3 * i] for i, target in enumerate(plain[:4])}
    for target in plain:
        end = next((i + 1 for i, token_id in enumerate(target) if token_id in stop_ids), len(target))
        expected.append(target[:end])
    assert len({len(target) for target in expected}) > 1
    assert generate_sequences(model, sources, GREEDY, stop_ids) == expected


def test_a_source_and_its_keys_and_values_are_made_once(small, monkeypatch):
    calls = {"encode": 0, "key": 0}
    encode = small.encode
    monkeypatch.setattr(
        small, "encode", lambda *a, **k: calls.update(encode=calls["encode"] + 1) or encode(*a, **k)
    )
    cross = small.trunk.decoder.blocks[0].cross_attention.key
    hook = cross.register_forward_hook(lambda *_: calls.update(key=calls["key"] + 1))
    generate_sequences(small, random_sources(9), GREEDY)
    hook.remove()
    assert calls == {"encode": 1, "key": 1}


def test_a_seeded_target_is_the_same_whoever_shares_its_batch(small):
    sampled = SamplingConfig(temperature=1.0, max_new_tokens=10)
    sources, seeds = random_sources(8), list(range(8))
    together = generate_sequences(small, sources, sampled, seeds=seeds)
    alone = [generate_sequences(small, [s], sampled, seeds=[i])[0] for i, s in enumerate(sources)]
    assert together == alone
    assert together != generate_sequences(small, sources, sampled, seeds=seeds[::-1])


def test_a_target_ends_at_the_decoders_window(small):
    assert len(generate_sequences(small, [[5]], GREEDY.replace(max_new_tokens=100))[0]) == 31


def test_a_source_that_is_too_long_or_empty_is_refused_by_number(small):
    with pytest.raises(
        UserError, match=r"source 2 of 3 has 33 tokens, and the encoder's context window holds 32"
    ):
        generate_sequences(small, [[1], [2] * 33, [3]], GREEDY)
    with pytest.raises(UserError, match="the source has no tokens"):
        generate_sequences(small, [[]], GREEDY)
    assert generate_sequences(small, [], GREEDY) == []


def test_dropout_is_off_and_the_model_is_handed_back_as_it_was(small):
    noisy = build("rotary, grouped").train()
    for module in noisy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    sources = random_sources(3)
    assert generate_sequences(noisy, sources, GREEDY) == generate_sequences(small, sources, GREEDY)
    assert noisy.training
    assert DecoderView(noisy, sources).training


def test_texts_are_framed_and_targets_are_text_up_to_the_end(make_tokenizer):
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    sides = {**MANY, "vocab_size": tokenizer.vocab_size}
    model = SequenceToSequence(
        EncoderDecoderConfig(encoder=EncoderConfig(**sides), decoder=DecoderConfig(**sides))
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    texts = ["the small bird", "", "it's raining"]
    with_special_tokens = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    targets = generate_sequences(model.eval(), with_special_tokens, GREEDY, [tokenizer.eos_id])
    written = translate(model, tokenizer, texts, GREEDY)
    assert written == [tokenizer.decode(target) for target in targets]
    assert translate(model, tokenizer, texts[:1], GREEDY) == written[:1]
    beams = beam_search_sequences(
        model, with_special_tokens, BeamConfig(max_new_tokens=9), [tokenizer.eos_id]
    )
    expected = [tokenizer.decode(best[0].token_ids) for best in beams]
    assert translate(model, tokenizer, texts, BeamConfig(max_new_tokens=9)) == expected
    with pytest.raises(UserError, match="targets end at EOS only"):
        translate(model, tokenizer, texts, GREEDY.replace(stop=("\n",)))
