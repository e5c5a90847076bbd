"""Contrastive search against equation 5 of Su et al. 2022, written out without a cache; transformers 5 has it no more."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.inference.config import ContrastiveConfig, SamplingConfig
from parakit.inference.generation.contrastive_search import contrastive_search
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.rules import GenerationRules

PROMPTS = [[3, 14, 15, 9, 26], [5], [35, 8, 97 - 1, 9, 7, 9, 3, 2]]


@torch.no_grad()
def written_out(model, prompt, alpha, top_k, n_new, stop_ids=(), banned=()):
    """Every step runs every candidate's whole sequence."""
    ids = list(prompt)
    for _ in range(n_new):
        hidden = model.hidden(torch.tensor([ids]))[0]
        logits = model.logits(hidden[-1])
        logits[list(banned)] = float("-inf")
        probabilities = logits.softmax(-1)
        scores = {}
        for token_id in probabilities.topk(top_k).indices.tolist():
            with_token = model.hidden(torch.tensor([[*ids, token_id]]))[0]
            likeness = functional.cosine_similarity(with_token[-1:], with_token[:-1]).max()
            scores[token_id] = (1 - alpha) * probabilities[token_id] - alpha * likeness
        ids.append(max(scores, key=lambda token_id: float(scores[token_id])))
        if ids[-1] in stop_ids:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize(("alpha", "top_k"), [(0.6, 4), (0.3, 8), (1.0, 3), (0.6, 1)])
def test_it_is_the_equation_of_the_paper(model64, alpha, top_k):
    config = ContrastiveConfig(penalty_alpha=alpha, top_k=top_k, max_new_tokens=9)
    wanted = [written_out(model64, prompt, alpha, top_k, 9) for prompt in PROMPTS]
    assert contrastive_search(model64, PROMPTS, config) == wanted
    stops = {wanted[0][4], wanted[2][2]}
    ended = [written_out(model64, prompt, alpha, top_k, 9, stops) for prompt in PROMPTS]
    assert contrastive_search(model64, PROMPTS, config, stops) == ended
    assert len(ended[0]) <= 5


def test_without_a_penalty_it_is_greedy_and_with_one_it_is_not(model64):
    greedy = generate_ids(model64, PROMPTS, SamplingConfig(temperature=0.0, max_new_tokens=12))
    for config in (ContrastiveConfig(penalty_alpha=0.0), ContrastiveConfig(top_k=1)):
        assert contrastive_search(model64, PROMPTS, config.replace(max_new_tokens=12)) == greedy
    assert contrastive_search(model64, PROMPTS, ContrastiveConfig(max_new_tokens=12)) != greedy


def test_rules_hold_and_limits_too(model64):
    config = ContrastiveConfig(max_new_tokens=6)
    banned = tuple({token_id for row in contrastive_search(model64, PROMPTS, config) for token_id in row})
    found = contrastive_search(model64, PROMPTS, config, rules=GenerationRules(suppress_ids=banned))
    assert found == [written_out(model64, prompt, 0.6, 4, 6, banned=banned) for prompt in PROMPTS]
    assert [len(row) for row in contrastive_search(model64, [[1] * 46, [1] * 48], config)] == [2, 0]
    with pytest.raises(UserError, match="49 tokens"):
        contrastive_search(model64, [[1] * 49], config)
