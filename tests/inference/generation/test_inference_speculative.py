"""Speculative decoding against plain decoding, token by token where nothing is drawn, and in distribution where it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from parakit.common.errors import UserError
from parakit.inference.config import ChatConfig, SamplingConfig
from parakit.inference.generation.constraints import compile_constraint
from parakit.inference.generation.decoding import stream_choices
from parakit.inference.generation.drafts import (
    Draft,
    DraftModel,
    PromptLookup,
    Speculation,
    Uniforms,
    check_draft,
)
from parakit.inference.generation.sampling import RequestSampler, distribution
from parakit.inference.generation.speculative import SpeculationStatistics, Verifier, speculative_choices
from parakit.inference.loaded_model import Model
from parakit.inference.scoring import logits_of
from parakit.model import LanguageModel
from parakit.tokens import Tokenizer
from parakit.tokens.chat.template import stop_ids
from tests.inference.conftest import TINY, build_model

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "penalties": {
        "temperature": 0.0,
        "repetition_penalty": 1.3,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.4,
    },
    "no repeats": {"temperature": 0.0, "no_repeat_ngram_size": 5},
    "bias": {"temperature": 0.0, "logit_bias": {3: 4.0, 5: -9.0}, "log_probabilities": 3},
    "sampled": {"temperature": 0.8, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95},
}
PROMPTS = [[5, 9, 7, 5, 9, 7, 5, 9], [1], [2, 3, 2, 3, 2, 3], list(range(20))]


def make_draft(model: LanguageModel, noise: float) -> LanguageModel:
    """A model like `model`, not the same."""
    draft = build_model(model.config, model.lm_head.weight.dtype)
    draft.load_state_dict(model.state_dict())
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn_like(parameter) * noise * parameter.std())
    return draft


@pytest.mark.parametrize("name", SETTINGS)
def test_looked_up_drafts_leave_every_token_as_it_is(name: str, model64: LanguageModel) -> None:
    config = SamplingConfig(**SETTINGS[name], max_new_tokens=24, seed=1)
    statistics = SpeculationStatistics()
    for seed, prompt in enumerate(PROMPTS[:3]):
        plain = list(stream_choices(model64, prompt, config, {11}, seed=seed))
        lookup = Speculation(prompt_lookup=5)
        drafted = list(
            speculative_choices(model64, prompt, config, lookup, {11}, seed=seed, statistics=statistics)
        )
        _assert_equal(plain, drafted)
    assert statistics.n_drafted > 0


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "sampled"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_greedy_draft_model_leaves_every_token_as_it_is(
    name: str, noise: float, model64: LanguageModel
) -> None:
    config = SamplingConfig(**SETTINGS[name], max_new_tokens=24)
    speculation = Speculation(make_draft(model64, noise))
    statistics = SpeculationStatistics()
    for prompt in PROMPTS[1:]:
        plain = list(stream_choices(model64, prompt, config, {11}))
        drafted = list(speculative_choices(model64, prompt, config, speculation, {11}, statistics=statistics))
        _assert_equal(plain, drafted)
    assert 0 < statistics.n_accepted <= statistics.n_drafted
    assert noise or statistics.n_accepted >= statistics.n_drafted - len(PROMPTS)  # all, but at an end


@pytest.mark.parametrize("source", ["look-up", "draft"])
def test_the_compiled_kernels_check_drafts_too(source: str, model32: LanguageModel) -> None:
    config = SamplingConfig(temperature=0.0, max_new_tokens=36)
    speculation = (
        Speculation(make_draft(model32, 0.05)) if source == "draft" else Speculation(prompt_lookup=4)
    )
    for prompt in PROMPTS:
        _assert_equal(
            list(stream_choices(model32, prompt, config)),
            list(speculative_choices(model32, prompt, config, speculation)),
        )


def _assert_equal(plain: list[Any], drafted: list[Any]) -> None:
    assert [one.token_id for one in plain] == [one.token_id for one in drafted]
    for a, b in zip(plain, drafted, strict=True):
        assert (a.log_probability is None) == (b.log_probability is None)
        if a.log_probability is not None:
            assert b.log_probability == pytest.approx(a.log_probability, abs=1e-9)
            assert [one.token_id for one in a.alternatives] == [one.token_id for one in b.alternatives]


def test_a_draft_like_the_model_saves_passes(model64: LanguageModel) -> None:
    config, statistics = SamplingConfig(temperature=0.0, max_new_tokens=36), SpeculationStatistics()
    list(
        speculative_choices(
            model64, [4, 2], config, Speculation(make_draft(model64, 0.0)), statistics=statistics
        )
    )
    assert statistics.accepted_share > 0.9
    assert statistics.tokens_per_forward > 5
    assert statistics.n_tokens == 35  # the first comes from the prompt's pass


def test_equal_seeds_give_equal_completions_with_a_sampled_draft(model64: LanguageModel) -> None:
    config, speculation = SamplingConfig(max_new_tokens=20), Speculation(make_draft(model64, 0.5))

    def run(seed: int) -> list[int]:
        return [one.token_id for one in speculative_choices(model64, [4, 2], config, speculation, seed=seed)]

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(5)}) == 5


SMALL = TINY.replace(vocab_size=6, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8)
DRAWN = {
    "repetition_penalty": 1.2,
    "presence_penalty": 0.3,
    "temperature": 1.3,
    "top_k": 5,
    "top_p": 0.97,
    "min_p": 0.02,
}


def exact_probabilities(
    model: LanguageModel, prompt: list[int], config: SamplingConfig, n: int
) -> dict[tuple[int, ...], float]:
    """The probability of every completion of `n` tokens, by enumeration without any cache."""
    found: dict[tuple[int, ...], float] = {}
    for tokens in itertools.product(range(model.config.vocab_size), repeat=n):
        sampler, probability = RequestSampler(config, prompt, 0, None, n), 1.0
        for i, token_id in enumerate(tokens):
            logits = logits_of(model, [*prompt, *tokens[:i]])[-1]
            probability *= float(distribution(sampler, logits)[token_id])
            if probability == 0.0:
                break
            sampler.accept(token_id)
        found[tokens] = probability
    assert sum(found.values()) == pytest.approx(1.0)
    return found


def chi_square(speculation: Speculation, n_samples: int) -> float:
    """The p-value of so many completions of three tokens."""
    model, prompt = build_model(SMALL, torch.float64, seed=2), [1, 2, 1, 2, 1]
    config = SamplingConfig(**DRAWN, max_new_tokens=3)
    expected = exact_probabilities(model, prompt, config, 3)
    counts = dict.fromkeys(expected, 0)
    for seed in range(n_samples):
        completion = speculative_choices(model, prompt, config, speculation, seed=seed)
        counts[tuple(choice.token_id for choice in completion)] += 1
    assert all(expected[key] > 0 for key, n in counts.items() if n)
    cells = sorted((expected[key] * n_samples, counts[key]) for key in expected if expected[key] > 0)
    wanted, seen, pool = [], [], np.zeros(2)
    for cell in cells:  # small ones together
        pool += cell
        if pool[0] >= 5:
            wanted.append(pool[0])
            seen.append(pool[1])
            pool = np.zeros(2)
    wanted[-1] += pool[0]
    seen[-1] += pool[1]
    assert len(wanted) > 10
    return float(stats.chisquare(seen, wanted).pvalue)


def sources() -> dict[str, Speculation]:
    model = build_model(SMALL, torch.float64, seed=2)
    return {
        "look-up": Speculation(prompt_lookup=3),
        "near": Speculation(make_draft(model, 0.4)),
        "far": Speculation(build_model(SMALL, torch.float64, seed=9)),
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["look-up", "near", "far"])
def test_the_distribution_is_unchanged(name: str) -> None:
    assert chi_square(sources()[name], 3_000) > 0.001


def test_one_position_is_kept_or_replaced_as_the_papers_say() -> None:
    """p from q by the rule alone, over many draws of one position."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, generator=generator, dtype=torch.float64)
    q = torch.rand(8, generator=generator, dtype=torch.float64) ** 3
    q /= q.sum()
    config = SamplingConfig(temperature=0.9, top_p=0.95)
    p = distribution(RequestSampler(config, [0], 0, None, 1), logits)
    model = build_model(SMALL, torch.float64)
    verifier = Verifier(model, None, 0)  # type: ignore[arg-type]
    counts, n_kept, n = torch.zeros(8), 0, 1500
    drafted = torch.multinomial(q, n, replacement=True, generator=generator).tolist()
    for seed, token_id in enumerate(drafted):
        verifier.uniforms = Uniforms(seed, "accept")
        sampler = RequestSampler(config, [0], seed, None, 1)
        [(choice, kept)] = verifier.choices(sampler, logits[None], Draft([token_id], [q]))
        counts[choice.token_id] += 1
        n_kept += kept
    some = p > 0
    assert stats.chisquare(counts[some].numpy(), (p[some] * n).numpy()).pvalue > 0.001
    assert counts[~some].sum() == 0
    assert n_kept / n == pytest.approx(float(torch.minimum(p, q).sum()), abs=0.03)


def test_a_constraint_holds_with_drafts(
    make_tokenizer: Callable[..., Tokenizer],
) -> None:
    tokenizer = make_tokenizer()
    model = build_model(TINY.replace(vocab_size=tokenizer.vocab_size, max_seq_len=96), torch.float64, seed=1)
    prompt, ends = tokenizer.encode("the bird sees the bird sees the"), stop_ids(tokenizer)
    constraint = compile_constraint(tokenizer, regex="( the bird sees| a tree){2,6}")
    for speculation in (Speculation(prompt_lookup=6), Speculation(make_draft(model, 0.2))):
        config, statistics = SamplingConfig(temperature=0.0, max_new_tokens=60), SpeculationStatistics()
        plain = list(stream_choices(model, prompt, config, ends, constraint=constraint))
        drafted = speculative_choices(
            model, prompt, config, speculation, ends, constraint=constraint, statistics=statistics
        )
        _assert_equal(plain, list(drafted))
        assert statistics.n_accepted > 0


def test_look_up_proposes_what_followed_the_last_tokens() -> None:
    sampler = RequestSampler(SamplingConfig(), [1, 2, 3, 4, 9, 2, 3], 0, None, 10)
    lookup = PromptLookup(4)
    assert lookup.propose(sampler, 3).token_ids == [4, 9, 2]
    for token_id in (8, 9, 2, 3):  # the latest occurrence counts
        sampler.accept(token_id)
    assert lookup.propose(sampler, 2).token_ids == [8, 9]
    repeating = RequestSampler(SamplingConfig(), [7, 5, 6, 5, 6], 0, None, 10)
    assert PromptLookup(4).propose(repeating, 4).token_ids == [5, 6, 5, 6]
    assert PromptLookup(4).propose(RequestSampler(SamplingConfig(), [1, 2, 3], 0, None, 9), 4).token_ids == []


def test_a_draft_model_forgets_what_was_rejected(model64: LanguageModel) -> None:
    config, prompt = SamplingConfig(temperature=0.0), [1, 2, 3]
    drafter = DraftModel(model64, prompt, 30, model64.config.vocab_size, 0)
    sampler = RequestSampler(config, prompt, 0, None, 30)
    first = drafter.propose(sampler, 5).token_ids
    for token_id in (first[0], (first[1] + 1) % 97, 4):
        sampler.accept(token_id)
    fresh = DraftModel(model64, prompt, 30, model64.config.vocab_size, 0)
    assert drafter.propose(sampler, 5).token_ids == fresh.propose(sampler, 5).token_ids


def test_a_draft_with_another_vocabulary_is_refused(
    make_tokenizer: Callable[..., Tokenizer], model64: LanguageModel
) -> None:
    tokenizer, other = make_tokenizer(), make_tokenizer("byte_bpe", 290)
    with pytest.raises(UserError, match=r"small has another vocabulary than big: token \d+ is"):
        check_draft(model64, other, tokenizer, ("small", "big"))
    check_draft(model64, tokenizer, tokenizer, ("small", "big"))


def test_the_source_of_drafts_is_one_and_within_its_limits() -> None:
    for settings in ({}, {"prompt_lookup": 65}, {"prompt_lookup": -1}):  # no source, too long, too short
        with pytest.raises(UserError):
            Speculation(**settings)


@pytest.fixture(scope="module")
def loaded(make_tokenizer: Callable[..., Tokenizer]) -> Model:
    tokenizer = make_tokenizer()
    config = TINY.replace(vocab_size=tokenizer.vocab_size, max_seq_len=96)
    return Model(build_model(config, torch.float64, seed=1), tokenizer, path="big")


def test_texts_are_those_without_drafts(loaded: Model) -> None:
    assert isinstance(loaded.network, LanguageModel)
    draft = Model(make_draft(loaded.network, 0.2), loaded.tokenizer, path="small")
    prompts = ["the bird sees a tree, the bird sees a", "a small bird"]
    settings: dict[str, Any] = {
        "temperature": 0.0,
        "max_new_tokens": 40,
        "stop": ["e t"],
        "repetition_penalty": 1.05,
    }
    plain = loaded.generate(prompts, **settings)
    assert loaded.generate(prompts, prompt_lookup=6, **settings) == plain
    assert loaded.generate(prompts, draft=draft, **settings) == plain
    chat = [{"role": "user", "content": "a bird and a bird"}]
    assert loaded.chat(chat, draft=draft, **settings) == loaded.chat(chat, **settings)
    sampled: dict[str, Any] = {"max_new_tokens": 30, "seed": 4, "n": 2, "log_probabilities": 1}
    one, two = (
        loaded.completions(prompts[0], prompt_lookup=6, **sampled),
        loaded.completions(prompts[0], **sampled),
    )
    assert [each.text for each in one] == [each.text for each in two]
    assert one[0].speculation is not None
    assert one[0].speculation.n_forwards == one[0].n_tokens - 1 - one[0].speculation.n_accepted


def test_a_chat_with_drafts_gives_the_answers_without(loaded: Model) -> None:
    config = ChatConfig(sampling=SamplingConfig(temperature=0.0, max_new_tokens=12))
    answers = []
    for drafts in (None, Speculation(prompt_lookup=4)):
        session = loaded.chat_session(config, drafts)
        for line in ("a bird", "a tree and a bird"):
            reply = session.send(line)
            assert reply.answer is not None
            answers.append("".join(reply.answer))
    assert answers[:2] == answers[2:]
    assert "tokens a pass" in session.stats_of_last()


def test_drafts_that_do_not_fit_are_refused(loaded: Model, make_tokenizer: Callable[..., Tokenizer]) -> None:
    other = Model(loaded.network, make_tokenizer("byte_bpe", 290), path="small")
    with pytest.raises(UserError, match="small has another vocabulary than big"):
        loaded.generate("a", draft=other)
    with pytest.raises(UserError, match="both are set"):
        loaded.generate("a", draft=loaded, prompt_lookup=3)
    with pytest.raises(UserError, match="prompt_lookup = 65"):
        loaded.generate("a", prompt_lookup=65)
    with pytest.raises(UserError, match="sampling and greedy decoding only"):
        loaded.generate("a", prompt_lookup=3, n_beams=2)
