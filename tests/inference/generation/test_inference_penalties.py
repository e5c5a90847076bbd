"""What changes scores before a choice: transformers' processors over random scores and histories, vLLM's penalties from
their formula, and the same numbers token by token as all at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as reference

from parakit.common.errors import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import resolve_logit_bias
from parakit.inference.generation.rules import GenerationRules, TokenHistory, request_rules
from parakit.inference.generation.sampling import RequestSampler

V = 12
TOKEN = st.integers(0, V - 1)
IDS = st.lists(TOKEN, max_size=3).map(tuple)
RULES = st.builds(
    GenerationRules,
    sequence_bias=st.dictionaries(st.lists(TOKEN, min_size=1, max_size=3).map(tuple), st.floats(-3, 3), max_size=5).map(
        lambda biases: tuple(biases.items())
    ),
    encoder_repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    repetition_penalty=st.sampled_from([1.0, 1.7, 0.8]),
    no_repeat_ngram_size=st.integers(0, 4),
    encoder_no_repeat_ngram_size=st.integers(0, 3),
    bad_word_ids=st.lists(st.lists(TOKEN, min_size=1, max_size=3).map(tuple), max_size=3, unique=True).map(tuple),
    min_length=st.integers(0, 12),
    min_new_tokens=st.integers(0, 6),
    forced_bos_id=st.none() | TOKEN,
    forced_eos_ids=IDS.filter(lambda ids: len(set(ids)) == len(ids)),
    suppress_ids=IDS,
    begin_suppress_ids=IDS,
    eos_ids=st.lists(TOKEN, min_size=1, max_size=2, unique=True).map(tuple),
)  # fmt: skip


def processors(rules: GenerationRules, n_prompt: int, limit: int, source: list[int]):
    """transformers' processors in the order in which its `generate` runs them."""
    eos = torch.tensor(rules.eos_ids)
    found = []
    if rules.sequence_bias:
        found.append(
            reference.SequenceBiasLogitsProcessor([[list(ids), bias] for ids, bias in rules.sequence_bias])
        )
    if rules.encoder_repetition_penalty != 1.0:
        found.append(
            reference.EncoderRepetitionPenaltyLogitsProcessor(
                rules.encoder_repetition_penalty, torch.tensor([source])
            )
        )
    if rules.repetition_penalty != 1.0:
        found.append(reference.RepetitionPenaltyLogitsProcessor(rules.repetition_penalty))
    if rules.no_repeat_ngram_size:
        found.append(reference.NoRepeatNGramLogitsProcessor(rules.no_repeat_ngram_size))
    if rules.encoder_no_repeat_ngram_size:
        found.append(
            reference.EncoderNoRepeatNGramLogitsProcessor(
                rules.encoder_no_repeat_ngram_size, torch.tensor([source])
            )
        )
    words = [list(ids) for ids in rules.bad_word_ids if list(ids) not in [[one] for one in rules.eos_ids]]
    if words:
        found.append(reference.NoBadWordsLogitsProcessor(words, eos))
    if rules.min_length:
        found.append(reference.MinLengthLogitsProcessor(rules.min_length, eos))
    if rules.min_new_tokens:
        found.append(reference.MinNewTokensLengthLogitsProcessor(n_prompt, rules.min_new_tokens, eos))
    if rules.forced_bos_id is not None:
        found.append(reference.ForcedBOSTokenLogitsProcessor(rules.forced_bos_id))
    if rules.forced_eos_ids:
        forced = torch.tensor(rules.forced_eos_ids)
        found.append(reference.ForcedEOSTokenLogitsProcessor(n_prompt + limit, forced))
    if rules.suppress_ids:
        found.append(reference.SuppressTokensLogitsProcessor(list(rules.suppress_ids)))
    if rules.begin_suppress_ids:
        begin = n_prompt + (n_prompt == 1 and rules.forced_bos_id is not None)
        found.append(reference.SuppressTokensAtBeginLogitsProcessor(list(rules.begin_suppress_ids), begin))
    return reference.LogitsProcessorList(found)


@settings(max_examples=60, deadline=None)
@given(RULES, st.lists(TOKEN, min_size=1, max_size=8), st.lists(TOKEN, max_size=6), st.integers(0, 99))
def test_scores_are_those_of_transformers_processors(rules, prompt, completion, seed):
    scores = torch.randn(1, V, generator=torch.Generator().manual_seed(seed)) * 3
    limit = len(completion) + 1 + seed % 2  # every other time this is the last token
    ids = [*prompt, *completion]
    wanted = processors(rules, len(prompt), limit, prompt)(torch.tensor([ids]), scores.clone())
    history = TokenHistory(ids, len(prompt), limit, prompt)
    torch.testing.assert_close(rules.apply(scores, [history]), wanted)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TOKEN, min_size=1, max_size=8),
    st.lists(TOKEN, max_size=20),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.dictionaries(TOKEN, st.floats(-9, 9), max_size=4),
)
def test_presence_and_frequency_penalties_are_vllms_and_biases_come_first(
    prompt, completion, presence, frequency, bias
):
    logits = torch.randn(V, generator=torch.Generator().manual_seed(len(completion)))
    config = SamplingConfig(
        presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias, repetition_penalty=1.5
    )
    sampler = RequestSampler(config, prompt, 0, None, 50)
    for token_id in completion:  # one at a time: the counts grow
        sampler.changed_scores(logits)
        sampler.accept(token_id)
    wanted = logits.double().numpy().copy()
    for token_id, number in bias.items():
        wanted[token_id] += number
    for token_id in {*prompt, *completion}:
        wanted[token_id] *= 1.5 if wanted[token_id] < 0 else 1 / 1.5
    for token_id in range(V):  # over the completion only
        count = completion.count(token_id)
        wanted[token_id] -= frequency * count + presence * (count > 0)
    np.testing.assert_allclose(sampler.changed_scores(logits), wanted, rtol=1e-4, atol=1e-5)


def test_more_tokens_than_the_first_buffer_holds_are_counted():
    config = SamplingConfig(frequency_penalty=1.0, repetition_penalty=2.0)
    sampler = RequestSampler(config, [0] * 5, 0, None, 500)
    for token_id in [*range(200), *range(100)]:
        sampler.accept(token_id)
    changed = sampler.changed_scores(torch.full((300,), 8.0))
    assert changed.tolist() == [2.0] * 100 + [3.0] * 100 + [8.0] * 100


def test_a_request_overrides_its_publisher():
    rules = GenerationRules(
        repetition_penalty=1.3,
        no_repeat_ngram_size=3,
        min_new_tokens=2,
        sequence_bias=(((4, 5), 1.0),),
        eos_ids=(1,),
    )
    assert request_rules(rules, SamplingConfig()) == rules
    off = SamplingConfig(repetition_penalty=1.0, no_repeat_ngram_size=0, min_new_tokens=0)
    assert request_rules(replace(rules, sequence_bias=()), off) is None
    own = SamplingConfig(no_repeat_ngram_size=2, min_new_tokens=5, logit_bias={7: -1.0})
    found = request_rules(rules, own, stop_ids=[1, 9])
    assert (found.no_repeat_ngram_size, found.min_new_tokens, found.eos_ids) == (2, 5, (1, 9))
    assert found.sequence_bias == (((4, 5), 1.0), ((7,), -1.0))


def test_biases_name_tokens_by_id_or_text(make_tokenizer):
    tokenizer = make_tokenizer()
    token_id = tokenizer.encode(" the")[0]
    config = SamplingConfig(logit_bias={" the": -2, "7": 1.5, token_id: 1})
    assert resolve_logit_bias(config, tokenizer, 300).logit_bias == {token_id: -1.0, 7: 1.5}
    assert SamplingConfig.parse({"logit_bias": '{"7": 1.5}'}).logit_bias == {7: 1.5}
    for biases, message in (
        ({" the old bird": 1}, "' the old bird' is [2-9] tokens"),
        ({300: 1}, "token id 300 is not below the vocabulary's size 300"),
        ({"<|endoftext|>": 1}, "tokens"),  # a control token's text is only text
    ):
        with pytest.raises(UserError, match=message):
            resolve_logit_bias(SamplingConfig(logit_bias=biases), tokenizer, 300)
