"""Beam search finds what an exhaustive search finds when it is wide enough, is greedy when it is one beam wide, and
does not depend on who shares the batch. (Against transformers: see `test_inference_transformers`.)
"""

from __future__ import annotations

import itertools

import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.seq_to_seq import beam_search_sequences, generate_sequences
from parakit.model import DecoderConfig, EncoderConfig, EncoderDecoderConfig, SequenceToSequence
from tests.short_suite import shortened

SMALL = {
    "vocab_size": 13,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 24,
}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(DecoderConfig(**SMALL, max_seq_len=24), torch.float64)


@pytest.fixture(scope="module")
def translator():
    torch.manual_seed(3)
    sides = {**SMALL, "max_seq_len": 24}
    model = SequenceToSequence(
        EncoderDecoderConfig(encoder=EncoderConfig(**sides), decoder=DecoderConfig(**sides))
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.to(torch.float64).eval()


def prompts(n=12, longest=9):
    generator = rng(1, "beams")
    return [generator.integers(0, 13, length).tolist() for length in generator.integers(1, longest + 1, n)]


@torch.no_grad()
def exhaustive(model, prompt, stop_id, length, penalty):
    """Every completion that ends with the stop id or after `length` tokens: its ids and its score."""
    found = []
    for n in range(1, length + 1):
        for tokens in itertools.product(range(13), repeat=n):
            if stop_id in tokens[:-1] or (n < length and tokens[-1] != stop_id):
                continue
            found.append(list(tokens))
    longest = torch.tensor([[*prompt, *tokens, *[0] * (length - len(tokens))] for tokens in found])
    steps = model(longest)[:, len(prompt) - 1 :].log_softmax(-1)
    scores = []
    for row, tokens in zip(steps, found, strict=True):
        total = sum(row[i, token_id].item() for i, token_id in enumerate(tokens))
        scores.append(total / len(tokens) ** penalty)
    return sorted(zip(scores, found, strict=True), reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_a_search_as_wide_as_the_tree_finds_the_best_completions(model, penalty):
    config = BeamConfig(n_beams=169, length_penalty=penalty, max_new_tokens=3, stop_when="impossible")
    for prompt in prompts(3):
        best = exhaustive(model, prompt, 5, 3, penalty)
        found = beam_search(model, [prompt], config, {5})[0]
        assert len(found) == 169
        for beam, (score, tokens) in zip(found[:20], best, strict=False):
            assert beam.token_ids == tokens
            assert beam.score == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("stop_when", ["unlikely", "full"])
def test_one_beam_is_greedy(model, translator, stop_when):
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=10)
    config = BeamConfig(n_beams=1, max_new_tokens=10, stop_when=stop_when)
    for stop_ids in ((), {3, 7}):
        found = beam_search(model, prompts(), config, stop_ids)
        assert [beams[0].token_ids for beams in found] == generate_ids(model, prompts(), greedy, stop_ids)
        found = beam_search_sequences(translator, prompts(), config, stop_ids)
        expected = generate_sequences(translator, prompts(), greedy, stop_ids)
        assert [beams[0].token_ids for beams in found] == expected
        assert {len(beams) for beams in found} == {1}


@shortened("stop_when", ["unlikely", "full", "impossible"], ["impossible"])
def test_a_prompt_finds_the_same_whoever_shares_its_batch(model, translator, stop_when):
    config = BeamConfig(n_beams=3, max_new_tokens=12, stop_when=stop_when)
    for search, searched in ((beam_search, model), (beam_search_sequences, translator)):
        together = search(searched, prompts(), config, {3, 7})
        assert len({len(beams[0].token_ids) for beams in together}) > 2
        alone = [search(searched, [prompt], config, {3, 7})[0] for prompt in prompts()]
        smaller = search(searched, prompts(), config, {3, 7}, micro_batch_size=7)
        for one, two, three in zip(together, alone, smaller, strict=True):
            ids = [beam.token_ids for beam in one]
            assert ids == [beam.token_ids for beam in two] == [beam.token_ids for beam in three]
            assert [beam.score for beam in one] == pytest.approx([beam.score for beam in two], rel=1e-5)
            assert sorted((beam.score for beam in one), reverse=True) == [beam.score for beam in one]


def test_more_beams_than_tokens_and_a_full_window_are_no_trouble(model):
    found = beam_search(model, [[1], [2] * 24, [3] * 22], BeamConfig(n_beams=20, max_new_tokens=3), {3})
    assert [len(beams) for beams in found] == [20, 1, 20]
    assert found[1][0].token_ids == []
    assert all(beam.score > -1e6 for beam in found[0])
    assert max(len(beam.token_ids) for beam in found[2]) == 2


def test_limits_are_those_of_generation(model, translator):
    with pytest.raises(UserError, match=r"25 tokens.* 24"):
        beam_search(model, [[1] * 25], BeamConfig())
    with pytest.raises(UserError, match=r"25 tokens.* 24"):
        beam_search_sequences(translator, [[1] * 25], BeamConfig())
    assert beam_search(model, [], BeamConfig()) == []


@torch.no_grad()
def diverse_beams(model, prompt, config, stop_ids, n_new):
    """Diverse beam search as the paper's algorithm 1 has it (Vijayakumar et al. 2016), without a cache: in each step the
    groups extend one after the other, and a token's score falls for every beam of an earlier group that took it.
    """
    n_groups, width = config.n_beam_groups, config.n_beams // config.n_beam_groups
    groups = [[(0.0, [])] for _ in range(n_groups)]
    finished, done = [[] for _ in range(n_groups)], [False] * n_groups
    for step in range(n_new):
        taken = []
        for number in range(n_groups):
            if done[number]:
                continue
            candidates = []
            for score, tokens in groups[number]:
                logs = model(torch.tensor([[*prompt, *tokens]]))[0, -1].log_softmax(-1)
                for token_id, log in enumerate(logs.tolist()):
                    penalty = config.diversity_penalty * taken.count(token_id)
                    candidates.append((score + log - penalty, [*tokens, token_id]))
            candidates.sort(key=lambda one: -one[0])
            continuing = []
            for rank, (score, tokens) in enumerate(candidates[: width * (1 + max(1, len(stop_ids)))]):
                if tokens[-1] not in stop_ids and step + 1 < n_new:
                    continuing.append((score, tokens))
                elif rank < width:
                    finished[number].append((score / len(tokens) ** config.length_penalty, tokens))
            finished[number] = sorted(finished[number], key=lambda one: -one[0])[:width]
            groups[number] = continuing[:width]
            full = len(finished[number]) == width
            best = continuing[0][0] / (step + 1) ** config.length_penalty if continuing else 0
            done[number] = not continuing or (full and best <= finished[number][-1][0])
            if not done[number]:
                taken += [tokens[-1] for _, tokens in groups[number]]
    return sorted((one for group in finished for one in group), key=lambda one: -one[0])


@pytest.mark.parametrize(
    ("n_beams", "n_groups", "penalty", "stop_ids"),
    [(4, 2, 0.7, {5}), (3, 3, 1.5, {5, 7}), (6, 2, 0.0, {5}), (4, 4, 20.0, ())],
)
def test_groups_of_beams_are_those_of_the_paper(model, n_beams, n_groups, penalty, stop_ids):
    config = BeamConfig(
        n_beams=n_beams,
        n_beam_groups=n_groups,
        diversity_penalty=penalty,
        max_new_tokens=6,
        length_penalty=0.8,
    )
    together = beam_search(model, prompts(5), config, stop_ids)
    for prompt, beams in zip(prompts(5), together, strict=True):
        wanted = diverse_beams(model, prompt, config, stop_ids, 6)
        assert [beam.token_ids for beam in beams] == [tokens for _, tokens in wanted]
        assert [beam.score for beam in beams] == pytest.approx([score for score, _ in wanted], rel=1e-4)
    if penalty > 10:  # no group takes what an earlier one took at the same step
        firsts = [{beam.token_ids[0] for beam in beams} for beams in together]
        assert all(len(some) == n_beams for some in firsts)
