"""Scores of continuations are those of whole passes over each text alone, whatever the texts have in common."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from parakit.common import UserError
from parakit.inference.engine import scoring
from parakit.inference.engine.scoring import Continuation, score_continuations
from parakit.model.heads import LanguageModel
from tests.inference.engine.decoders import LONGROPE, NAMES, tiny_decoder


def questions(n_ids: int, longest: int, seed: int = 0) -> list[Continuation]:
    """Questions with equal beginnings, and with choices that begin alike, end early, and repeat."""
    draw = random.Random(seed)

    def ids(n: int) -> list[int]:
        return [draw.randrange(n_ids) for _ in range(n)]

    examples, pairs = ids(longest // 3), []
    for _ in range(4):
        question = [*examples, *ids(draw.randint(1, longest // 3))]
        choice = ids(5)
        pairs += [
            (question, choice),
            (question, choice[:2]),
            (question, [*choice[:3], *ids(2)]),
            (question, ids(1)),
        ]
        pairs.append((question[:1], question[1:]))  # targets within what the others share
    return [*pairs, pairs[2]]


@torch.inference_mode()
def check_by_whole_passes(model: LanguageModel, pairs: list[Continuation], tolerance: float = 1e-9) -> None:
    model.eval()
    for (context, continuation), score in zip(pairs, score_continuations(model, pairs), strict=True):
        logits = model(torch.tensor([[*context, *continuation][:-1]]))[0, len(context) - 1 :].double()
        targets = torch.tensor(continuation)
        expected = logits.log_softmax(-1)[torch.arange(len(targets)), targets]
        torch.testing.assert_close(
            torch.tensor(score.log_probs, dtype=torch.float64), expected, atol=tolerance, rtol=0
        )
        assert score.is_greedy == bool((logits.argmax(-1) == targets).all())


@pytest.mark.parametrize(("name", "variant"), [*((name, None) for name in NAMES), LONGROPE])
def test_scores_are_those_of_whole_passes(name, variant, monkeypatch):
    model = tiny_decoder(name, variant)
    monkeypatch.setattr(scoring, "MAX_ROWS", 7)  # several groups, which share what the one before computed
    monkeypatch.setattr(scoring, "STEP_TOKENS", 12)  # nodes in several passes
    check_by_whole_passes(model, questions(model.config.vocab_size, model.config.max_seq_len - 8))


@pytest.mark.parametrize(
    ("name", "variant"), [("llama", None), ("gemma2", None), ("qwen3_5_text", None), LONGROPE]
)
def test_a_cache_for_one_text_is_enough(name, variant, monkeypatch):
    model = tiny_decoder(name, variant)
    sizes = []
    make = scoring.PagedCache

    def small(*args, **settings):
        sizes.append(settings["memory_bytes"])
        return make(*args, **settings)

    monkeypatch.setattr(scoring, "PagedCache", small)
    monkeypatch.setattr(scoring, "CACHE_BYTES", 0)
    monkeypatch.setattr(scoring, "N_LONGEST", 1)
    check_by_whole_passes(model, questions(model.config.vocab_size, model.config.max_seq_len - 8))
    assert sizes[0] < 10**6


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_compiled_kernels_give_the_same_scores(name):
    model = copy.deepcopy(tiny_decoder(name)).float()
    check_by_whole_passes(model, questions(model.config.vocab_size, model.config.max_seq_len - 8), 1e-4)


def test_what_texts_share_is_computed_once(monkeypatch):
    model = tiny_decoder("qwen3")
    n_computed = 0
    run = scoring.ForwardPass.run

    def counted(self, works):
        nonlocal n_computed
        n_computed += sum(len(work.token_ids) for work in works)
        return run(self, works)

    monkeypatch.setattr(scoring.ForwardPass, "run", counted)
    shared = [3, 1, 4, 1, 5, 9, 2, 6] * 3
    score_continuations(model, [([*shared, i], [7, 8, i]) for i in range(6)])
    assert n_computed == len(shared) + 6 * 3


def test_the_continuation_that_greedy_decoding_chooses_is_greedy():
    model = tiny_decoder("llama").eval()
    with torch.inference_mode():
        best = int(model(torch.tensor([[1, 2, 3]]))[0, -1].argmax())
    other = (best + 1) % model.config.vocab_size
    assert [score.is_greedy for score in score_continuations(model, [([1, 2, 3], [best]), ([1, 2, 3], [other])])] == [
        True, False,
    ]  # fmt: skip


def test_the_last_token_may_be_the_one_behind_the_window():
    model = tiny_decoder("llama")
    window = model.config.max_seq_len
    check_by_whole_passes(model, [([1] * window, [2])])
    with pytest.raises(UserError, match=f"{window + 1} tokens"):
        score_continuations(model, [([1] * window, [2, 3])])


def test_bad_continuations_are_refused():
    model = tiny_decoder("llama")
    for pair in (([], [1]), ([1], [])):
        with pytest.raises(UserError, match="has no tokens"):
            score_continuations(model, [pair])
    with pytest.raises(UserError, match=f"the vocabulary has {model.config.vocab_size}"):
        score_continuations(model, [([1], [model.config.vocab_size])])
    assert score_continuations(model, []) == []
