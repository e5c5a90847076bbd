"""Greedy tokens are the same cached, uncached, batched, streamed and alone; sampled ones do not depend on
neighbours.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.steps.model_steps import decode_step, prefill

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=8)


def random_prompts(n, longest=20, vocab_size=97, label="prompts"):
    generator = rng(3, label)
    return [
        generator.integers(0, vocab_size, length).tolist() for length in generator.integers(1, longest + 1, n)
    ]


@torch.no_grad()
def uncached_logits(model, prompts, steps):
    """The reference: the whole sequence again for every token, no cache, one row at a time; tokens and
    logits.
    """
    completions, logits = [], []
    for prompt in prompts:
        sequence, rows = list(prompt), []
        for _ in range(steps):
            rows.append(model(torch.tensor([sequence]))[0, -1])
            sequence.append(int(rows[-1].argmax()))
        completions.append(sequence[len(prompt) :])
        logits.append(torch.stack(rows))
    return completions, logits


def test_greedy_tokens_are_equal_uncached_cached_batched_and_streamed_on_a_thousand_prompts(model64):
    prompts = random_prompts(1000)
    batched = generate_ids(model64, prompts, GREEDY)
    for start, size in (
        (0, 1),
        (40, 2),
        (80, 3),
        (120, 4),
        (160, 5),
        (200, 6),
        (240, 7),
        (280, 8),
        (360, 320),
    ):
        part = prompts[start : start + 40 if size < 320 else None]
        assert (
            generate_ids(model64, part, GREEDY, micro_batch_size=size) == batched[start : start + len(part)]
        )
    for i in range(0, 1000, 5):
        assert list(stream_ids(model64, prompts[i], GREEDY)) == batched[i]
    # uncached reference: one full forward pass over prompt and completion, for all prompts of a length
    with torch.no_grad():
        for length in sorted({len(prompt) for prompt in prompts}):
            members = [i for i in range(1000) if len(prompts[i]) == length]
            whole = torch.tensor([prompts[i] + batched[i] for i in members])
            expected = model64(whole)[:, length - 1 : -1].argmax(-1)
            assert expected.tolist() == [batched[i] for i in members]


def test_a_naive_loop_without_cache_gives_the_same_tokens_alone(model64):
    prompts = random_prompts(12, label="naive")
    assert uncached_logits(model64, prompts, 8)[0] == generate_ids(model64, prompts, GREEDY)


def test_in_float32_tokens_are_equal_wherever_the_margin_exceeds_the_rounding_error(model32):
    """Batched and lone rows may be summed in another order, which moves logits by about 1e-6 of their
    size.
    """
    prompts = random_prompts(60, label="float32")
    expected, logits = uncached_logits(model32, prompts, 8)
    n_sure = 0
    for tokens, reference, rows in zip(generate_ids(model32, prompts, GREEDY), expected, logits, strict=True):
        top = rows.topk(2, dim=-1).values
        sure = ((top[:, 0] - top[:, 1]) > 1e-4 * rows.abs().amax(-1)).tolist()
        n = sure.index(False) if False in sure else len(sure)
        assert tokens[:n] == reference[:n]
        n_sure += n
    assert n_sure > 0.95 * 60 * 8


def test_logits_of_ragged_prefill_chunks_and_steps_equal_a_plain_forward_pass(model64):
    prompts = random_prompts(7, label="logits")
    cache = KVCache(model64.config, len(prompts), 48, dtype=torch.float64)
    first = prefill(model64, cache, prompts)
    chunks = [prompt[:2] for prompt in reversed(prompts)]
    second = prefill(model64, cache, chunks)
    third = decode_step(model64, cache, torch.arange(7))
    for row, (prompt, chunk) in enumerate(zip(prompts, chunks, strict=True)):
        whole = model64(torch.tensor([[*prompt, *chunk, row]]))[0]
        torch.testing.assert_close(first[row], whole[len(prompt) - 1])
        torch.testing.assert_close(second[row], whole[-2])
        torch.testing.assert_close(third[row], whole[-1])


def test_tokens_taken_back_leave_no_trace(model64):
    prompts = random_prompts(5, label="rollback")
    cache = KVCache(model64.config, 5, 48, dtype=torch.float64)
    prefill(model64, cache, prompts)
    lengths = list(cache.lengths)
    untouched = decode_step(model64, cache, torch.full((5,), 7))
    cache.truncate(lengths)
    prefill(model64, cache, [[1, 2, 3]] * 5)
    cache.truncate(lengths)
    torch.testing.assert_close(decode_step(model64, cache, torch.full((5,), 7)), untouched, rtol=0, atol=0)


def test_rows_that_finish_leave_the_batch_and_the_others_do_not_notice(model64):
    prompts = random_prompts(40, label="stop")
    plain = generate_ids(model64, prompts, GREEDY.replace(max_new_tokens=20))
    stop_ids = set(range(0, 97, 9))
    expected = []
    for tokens in plain:
        end = next((i + 1 for i, token_id in enumerate(tokens) if token_id in stop_ids), len(tokens))
        expected.append(tokens[:end])
    assert len({len(tokens) for tokens in expected}) > 5
    assert generate_ids(model64, prompts, GREEDY.replace(max_new_tokens=20), stop_ids) == expected
    for prompt, tokens in zip(prompts[:10], expected, strict=False):
        assert list(stream_ids(model64, prompt, GREEDY.replace(max_new_tokens=20), stop_ids)) == tokens


def test_a_completion_ends_at_the_context_window(model64):
    prompts = [[5] * 45, [6] * 48, [7] * 10]
    long, full, short = generate_ids(model64, prompts, GREEDY.replace(max_new_tokens=100))
    assert (len(long), len(full), len(short)) == (3, 0, 38)
    assert list(stream_ids(model64, [6] * 48, GREEDY)) == []


def test_a_prompt_over_the_context_window_is_refused_naming_both_numbers(model64):
    for call in (
        lambda: generate_ids(model64, [[1], [1] * 49], GREEDY),
        lambda: list(stream_ids(model64, [1] * 49, GREEDY)),
    ):
        with pytest.raises(UserError, match=r"49 tokens.* 48"):
            call()
    with pytest.raises(UserError, match="no tokens"):
        generate_ids(model64, [[]], GREEDY)
    assert generate_ids(model64, [], GREEDY) == []


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_seeded_request_says_the_same_whoever_shares_its_batch(model64, penalty):
    config = SamplingConfig(
        temperature=1.1, top_k=40, top_p=0.95, min_p=0.01, repetition_penalty=penalty, max_new_tokens=12
    )
    prompts, seeds = random_prompts(9, label="seeded"), list(range(9))
    together = generate_ids(model64, prompts, config, {3, 50}, seeds=seeds)
    for prompt, seed, tokens in zip(prompts, seeds, together, strict=True):
        assert generate_ids(model64, [prompt], config, {3, 50}, seeds=[seed]) == [tokens]
        assert list(stream_ids(model64, prompt, config, {3, 50}, seed=seed)) == tokens
    assert generate_ids(model64, prompts[::-1], config, {3, 50}, seeds=seeds[::-1]) == together[::-1]


def test_one_seed_gives_each_request_of_a_call_its_own_stream(model64):
    config = SamplingConfig(temperature=1.0, seed=4, max_new_tokens=10)
    first = generate_ids(model64, [[1, 2, 3]] * 5, config)
    assert first == generate_ids(model64, [[1, 2, 3]] * 5, config)
    assert len(set(map(tuple, first))) == 5
    assert list(stream_ids(model64, [1, 2, 3], config)) == first[0]
    unseeded = config.replace(seed=None)
    assert generate_ids(model64, [[1, 2, 3]], unseeded) != generate_ids(model64, [[1, 2, 3]], unseeded)


def test_sampled_frequencies_are_those_of_the_models_distribution(model64):
    config = SamplingConfig(temperature=1.0, top_k=5, seed=1, max_new_tokens=1)
    n = 4000
    drawn = np.array(generate_ids(model64, [[9, 8, 7]] * n, config, micro_batch_size=1000))[:, 0]
    logits = model64(torch.tensor([[9, 8, 7]]))[0, -1].detach()
    likeliest = logits.topk(5)
    for token_id, p in zip(likeliest.indices.tolist(), likeliest.values.softmax(-1).tolist(), strict=True):
        assert abs((drawn == token_id).mean() - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert set(drawn) <= set(likeliest.indices.tolist())


def test_dropout_is_off_while_generating_and_the_model_is_handed_back_as_it_was(make_model):
    model = make_model()
    noisy = make_model(model.config.replace(dropout=0.5)).train()
    assert generate_ids(noisy, [[1, 2]], GREEDY) == generate_ids(model, [[1, 2]], GREEDY)
    assert list(stream_ids(noisy, [1, 2], GREEDY)) == generate_ids(model, [[1, 2]], GREEDY)[0]
    assert noisy.training


def test_a_stop_check_is_asked_only_about_suspects_and_ends_a_row(model64):
    class AfterThree:
        suspects = None
        n_checks = 0

        def confirms(self, token_ids):
            self.n_checks += 1
            return len(token_ids) >= 3

    check = AfterThree()
    assert [len(t) for t in generate_ids(model64, [[1], [2, 3]], GREEDY, stop_check=check)] == [3, 3]
    check.suspects, check.n_checks = (), 0
    assert [len(t) for t in generate_ids(model64, [[1], [2, 3]], GREEDY, stop_check=check)] == [8, 8]
    assert check.n_checks == 0


def test_norm_weights_and_untied_heads_count(make_model):
    model = make_model(make_model().config.replace(tie_embeddings=False, n_kv_heads=4), torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 2)
    prompts = random_prompts(6, label="fused")
    assert generate_ids(model, prompts, GREEDY) == uncached_logits(model, prompts, 8)[0]


def test_equal_prompts_are_read_once_and_answered_as_alone(model64):
    """Groups of samples of one prompt share its prefill; what each says depends on its own seed alone."""
    prompts = [[5, 9, 2], [7], [5, 9, 2], [5, 9, 2], [7], [3, 3]]
    config, seeds = SamplingConfig(temperature=1.0, max_new_tokens=9), [11, 12, 13, 14, 15, 16]
    together = generate_ids(model64, prompts, config, seeds=seeds)
    alone = [
        generate_ids(model64, [prompt], config, seeds=[seed])[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert len({tuple(ids) for ids in (together[0], together[2], together[3])}) > 1
