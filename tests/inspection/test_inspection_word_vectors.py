"""Neighbours and analogies by the cosine, counted right; which tokens are words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.analogies import Analogy
from parakit.inspection.vectors.texts import nearest_words, text_similarity, word_query
from parakit.inspection.vectors.word_vectors import (
    WordVectors,
    embedding_table,
    total,
    word_rows,
    word_vectors,
)
from parakit.tokens import TokenizerConfig, train_tokenizer
from tests.sample_text import sentences


@pytest.fixture
def planted() -> WordVectors:
    """Countries and capitals that differ by one vector, among random words."""
    random = rng(0, "vectors")
    base, shift = random.normal(size=(6, 24)), random.normal(size=24)
    rows = np.concatenate([base, base + shift, random.normal(size=(20, 24))])
    words = [
        *(f"land{i}" for i in range(6)),
        *(f"City{i}" for i in range(6)),
        *(f"word{i}" for i in range(20)),
    ]
    return WordVectors(tuple(words), rows)


def questions(n: int) -> list[Analogy]:
    pairs = [(f"land{i}", f"City{i}") for i in range(n)]
    return [Analogy(*a, *b, "capitals") for a in pairs for b in pairs if a != b]


def test_neighbours_are_those_of_a_plain_search(planted):
    rows = planted.vectors
    cosines = rows @ rows[3] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[3])
    expected = [i for i in np.argsort(-cosines) if i != 3][:5]
    found = planted.neighbours("land3", 5)
    assert [one.word for one in found] == [planted.words[i] for i in expected]
    np.testing.assert_allclose([one.cosine for one in found], cosines[expected], rtol=1e-5)


def test_planted_analogies_are_right(planted):
    assert planted.analogy("land0", "City0", "land4")[0].word == "City4"
    [score] = planted.analogy_scores(questions(6), case_insensitive=False)
    assert (score.n_correct, score.n, score.n_questions) == (30, 30, 30)


def test_the_score_is_that_of_a_plain_loop_and_unknown_words_are_left_out(planted):
    noisy = WordVectors(planted.words, planted.vectors + rng(1, "noise").normal(size=planted.vectors.shape))
    unit = noisy.vectors / np.linalg.norm(noisy.vectors, axis=1, keepdims=True)
    n_correct, known = 0, questions(6)
    for four in known:
        a, b, c, d = (noisy.words.index(word) for word in four[:4])
        scores = unit @ (unit[b] - unit[a] + unit[c])
        scores[[a, b, c]] = -np.inf
        n_correct += int(scores.argmax()) == d
    [score] = noisy.analogy_scores(questions(8), case_insensitive=False)
    assert (score.n_correct, score.n, score.n_questions) == (n_correct, len(known), 56)
    assert 0 < score.accuracy < 1


def test_case_is_folded_to_the_first_spelling():
    vectors = WordVectors(("Bird", "bird", "tree"), np.eye(3))
    assert vectors.folded().words == ("bird", "tree")
    np.testing.assert_array_equal(vectors.folded().vectors, np.eye(3)[[0, 2]])


def test_a_word_without_a_vector_is_refused_with_the_nearest(planted):
    with pytest.raises(UserError, match="did you mean 'land3'"):
        planted.neighbours("lamd3")


def test_categories_add_up(planted):
    scores = planted.analogy_scores(
        [*questions(6), Analogy("x", "y", "z", "w", "other")], case_insensitive=False
    )
    assert total(scores).n_questions == 31
    assert scores[1].accuracy == 0.0


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "word"])
def test_whole_words_decode_to_themselves(kind):
    tokenizer = train_tokenizer(
        iter(sentences(i, 12) for i in range(8)), TokenizerConfig(kind=kind, vocab_size=320)
    )
    words = word_rows(tokenizer)
    assert len(words) > 10
    for word, row in words.items():
        assert tokenizer.decode([row]).strip() == word
        assert row not in tokenizer.control_ids


def test_vectors_of_a_model_are_rows_of_its_tables(published_encoder):
    model = Model.load(published_encoder, device="cpu")
    vectors = word_vectors(model)
    matrix = model.network.trunk.token_embedding.weight.detach().numpy()
    word = vectors.words[7]
    np.testing.assert_array_equal(vectors.vectors[7], matrix[model.tokenizer.token_id(word)])
    np.testing.assert_array_equal(embedding_table(model, "output"), matrix)  # tied


def test_a_word_of_several_tokens_is_their_mean(published_decoder):
    model = Model.load(published_decoder, device="cpu")
    vector, tokens = word_query(model, "zebracorn")
    ids = model.tokenizer.encode(" zebracorn")
    assert len(tokens) == len(ids) > 1
    matrix = model.network.trunk.token_embedding.weight.detach().numpy()
    np.testing.assert_allclose(vector, matrix[ids].mean(0), rtol=1e-6)
    found, _ = nearest_words(model, word_vectors(model), "zebracorn", 4)
    assert len(found) == 4


def test_similarity_of_texts_is_the_cosine_of_their_vectors(published_encoder: Path):
    model = Model.load(published_encoder, device="cpu")
    texts = ["the bird sees a tree", "a red house", "the bird sees a tree"]
    found = text_similarity(model, texts)
    vectors = model.embed(texts, normalize=False)
    norms = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(found.cosine, vectors @ vectors.T / np.outer(norms, norms), atol=1e-5)
    assert found.cosine[0, 2] == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="two or more"):
        text_similarity(model, texts[:1])
