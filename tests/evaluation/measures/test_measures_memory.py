"""Memorization, needles and analogies: models that were made to know, and models that know nothing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.evaluation.measures import memorization, needle
from parakit.evaluation.measures.analogies import measure_analogies
from parakit.evaluation.measures.answers import GeneratedAnswers
from parakit.evaluation.measures.memorization import make_canaries, measure_exposure, measure_extraction
from parakit.evaluation.measures.needle import measure_needle
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import context_ids, prompt_ids
from parakit.inference.generation.decoding import generate_choices
from parakit.inference.prediction.analogies import closest, read_analogies
from parakit.model import DecoderConfig, LanguageModel


@pytest.fixture
def small_extraction(monkeypatch):
    monkeypatch.setattr(memorization, "PREFIX_TOKENS", 6)
    monkeypatch.setattr(memorization, "CONTINUATION_TOKENS", 5)


@pytest.mark.usefixtures("small_extraction")
def test_text_that_a_model_continues_exactly_is_extracted(
    given, write_data, check_result, tmp_path, monkeypatch
):
    """The first text is what the model itself continues with, the second differs from it in a later token."""
    start = context_ids(given.tokenizer, "Anna sees the bird and Tom")[:6]
    config = SamplingConfig(temperature=0.0, max_new_tokens=5)
    (choices,) = generate_choices(given.model, [start], config, frozenset(), seeds=[0])
    own = [*start, *(choice.token_id for choice in choices)]
    texts = ["its own", "Anna sees the bird and Tom works in the books, and it was not.", "short"]
    encode = memorization.context_ids
    monkeypatch.setattr(
        memorization, "context_ids", lambda reader, text: own if text == "its own" else encode(reader, text)
    )
    write_data("memorization/training.jsonl", [{"text": text} for text in texts])
    result = measure_extraction(given)
    check_result(result, tmp_path)
    assert [item.id for item in result.items] == ["0", "1"]
    assert result.items[0].scores == {"extracted": 1.0, "matched": 1.0}
    assert result.items[1].scores["extracted"] == 0
    assert not result.scores["extracted"].higher_is_better
    write_data("memorization/training.jsonl", [{"text": "short"}])
    with pytest.raises(UserError, match="no text has 11 tokens"):
        measure_extraction(given)


def test_a_window_that_is_too_small_for_extraction_is_refused(given, write_data, monkeypatch):
    monkeypatch.setattr(memorization, "PREFIX_TOKENS", 300)
    write_data("memorization/training.jsonl", [{"text": "a"}])
    with pytest.raises(UserError, match="reads 350 tokens, and the context window holds 256"):
        measure_extraction(given)


def test_exposure_is_the_rank_of_the_secret_among_all(given, write_data, check_result, tmp_path, monkeypatch):
    rows = make_canaries(3, n_digits=2)
    write_data("memorization/canaries.jsonl", rows)
    seen: list[str] = []

    def likelihoods(model, tokenizer, texts):
        seen.extend(texts)
        return [-float(text[-3:-1]) for text in texts]  # the smaller the number, the likelier

    monkeypatch.setattr(memorization, "text_log_likelihoods", likelihoods)
    result = measure_exposure(given)
    check_result(result, tmp_path)
    assert len(set(seen)) == 300
    for row, item in zip(rows, result.items, strict=True):
        assert item.scores["exposure"] == pytest.approx(math.log2(100) - math.log2(int(row["secret"]) + 1))
    monkeypatch.setattr(memorization, "N_REFERENCES", 15)
    seen.clear()
    sampled = measure_exposure(given)
    assert len(seen) == 48
    assert all(item.scores["exposure"] <= 4 for item in sampled.items)


def test_exposure_of_an_untrained_model_is_small_and_canaries_are_checked(given, write_data, monkeypatch):
    monkeypatch.setattr(memorization, "N_REFERENCES", 63)
    write_data("memorization/canaries.jsonl", make_canaries(2))
    assert make_canaries(2) == make_canaries(2)
    assert make_canaries(2, seed=1) != make_canaries(2)
    result = measure_exposure(given)
    assert all(0 <= item.scores["exposure"] <= 6 for item in result.items)
    for change, message in (
        ({"format": "no place"}, "no single"),
        ({"secret": "12x"}, "not of the alphabet"),
    ):
        write_data("memorization/canaries.jsonl", [make_canaries(1)[0] | change])
        with pytest.raises(UserError, match=message):
            measure_exposure(given)


def test_needles_lie_at_their_depth_in_texts_of_their_length(given, check_result, tmp_path, monkeypatch):
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=given.tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=16,
        max_seq_len=1100,
    )  # fmt: skip
    given = dataclasses.replace(given, model=LanguageModel(config).eval())
    monkeypatch.setattr(needle, "LENGTHS", (512, 1024, 2048))
    monkeypatch.setattr(needle, "N_ITEMS", 1)

    def copy(given, prompts, config):
        """The right number for all texts but the first."""
        towns = [prompt.rpartition("number of ")[2].removesuffix(" is") for prompt in prompts]
        texts = [
            prompt.partition(f"number of {town} is ")[2][:4]
            for prompt, town in zip(prompts, towns, strict=True)
        ]
        return GeneratedAnswers(tuple((f" {text}.",) for text in ["0000", *texts[1:]]), 0)

    monkeypatch.setattr(needle, "generate_answers", copy)
    result = measure_needle(given)
    check_result(result, tmp_path)
    assert [item.scores["found"] for item in result.items] == [0.0] + [1.0] * 9
    assert list(result.groups) == [
        f"{length:>6} tokens, {depth:>3} %" for length in (512, 1024) for depth in needle.DEPTHS
    ]
    for item in result.items:
        length, depth, _ = map(int, item.id.split("/"))
        assert length - 60 < len(prompt_ids(given.tokenizer, item.prompt)) <= length
        haystack = item.prompt.partition("\n\n")[0]
        at = haystack.index(f"{item.target}.") / len(haystack)
        assert abs(at - depth / 100) < 0.35
        assert haystack.count("secret number") == 3
    monkeypatch.setattr(needle, "LENGTHS", (2048,))
    with pytest.raises(UserError, match="the shortest haystack has 2048 tokens"):
        measure_needle(given)
    monkeypatch.setattr(needle, "LENGTHS", (40,))
    with pytest.raises(UserError, match="take more than 40 tokens"):
        measure_needle(given)


def test_the_answer_to_an_analogy_is_the_closest_word_but_the_three():
    """A lattice of words: the fourth corner of each parallelogram is the answer, however close the others are."""
    generator = np.random.default_rng(0)
    base, change = generator.normal(size=(5, 8)), 0.3 * generator.normal(size=8)
    vectors = np.concatenate([base, base + change])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = np.array([[a, a + 5, c] for a in range(5) for c in range(5) if a != c])
    found = closest(vectors, questions)
    for (a, b, c), answer in zip(questions, found, strict=True):
        wanted = vectors[b] - vectors[a] + vectors[c]
        cosines = [
            -2 if i in (a, b, c) else float(wanted @ vectors[i] / np.linalg.norm(wanted))
            for i in range(len(vectors))
        ]
        assert answer == int(np.argmax(cosines))
    assert (found == questions[:, 2] + 5).mean() > 0.8


def test_analogies_of_words_that_are_one_token(given, check_result, tmp_path):
    words = [
        word
        for word in ("the", "is", "me", "he", "in", "this", "are", "does")
        if len(given.tokenizer.encode(f" {word}")) == 1
    ]
    assert len(words) >= 4
    a, b, c, d = words[:4]
    path = given.data / "word_analogy" / "questions-words.txt"
    path.parent.mkdir(parents=True)
    path.write_text(
        f": first\n{a} {b} {c} {d}\n{b} {a} {d} {c}\n: second\nzebra {b} {c} {d}\n{a} {c} {b} {d}\n"
    )
    result = measure_analogies(given)
    check_result(result, tmp_path)
    assert [item.id for item in result.items] == ["0", "1", "3"]
    assert result.protocol.settings == {"n_questions": 4, "n_covered": 3, "n_words": 4}
    assert {item.answer for item in result.items} <= set(words)
    assert set(result.groups) == {"first", "second"}
    path.write_text("a b c\n")
    with pytest.raises(UserError, match="line 1: 3 words"):
        read_analogies(path)
    path.write_text("zebra quokka okapi tapir\n")
    with pytest.raises(UserError, match="no vectors"):
        measure_analogies(given)


def test_planted_canaries_are_exposed_and_others_are_not(given, write_data, monkeypatch):
    """A tiny model is trained on the first two canaries, and on text that it then continues word for word."""
    monkeypatch.setattr(memorization, "PREFIX_TOKENS", 10)
    monkeypatch.setattr(memorization, "CONTINUATION_TOKENS", 10)
    canaries = make_canaries(6, n_digits=3, text="Anna {n} has the number {secret}.")
    write_data("memorization/canaries.jsonl", canaries)
    text = "Where does Tom work? The bird sees Anna, and he has 12 books. It was not me."
    write_data("memorization/training.jsonl", [{"text": text}, {"text": text[::-1]}])
    torch.manual_seed(0)
    model = LanguageModel(given.model.config)
    model.load_state_dict(given.model.state_dict())
    planted = [one["format"].format(one["secret"]) for one in canaries[:2]]
    rows = [torch.tensor([[given.tokenizer.eos_id, *given.tokenizer.encode(one)]]) for one in planted]
    rows.append(torch.tensor([context_ids(given.tokenizer, text)]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        for row in rows:
            logits = model(row)[0, :-1]
            torch.nn.functional.cross_entropy(logits, row[0, 1:]).backward()
        optimizer.step()
    trained = dataclasses.replace(given, model=model.eval())
    exposure = [item.scores["exposure"] for item in measure_exposure(trained).items]
    assert min(exposure[:2]) > 8
    assert np.mean(exposure[2:]) < 6
    assert [item.scores["extracted"] for item in measure_extraction(trained).items] == [1.0, 0.0]
    assert [item.scores["extracted"] for item in measure_extraction(given).items] == [0.0, 0.0]
