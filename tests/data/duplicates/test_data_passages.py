"""Repeated passages: what occurred before is taken out, what occurs once never is."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.data.duplicates import passage_finder
from parakit.data.duplicates.passage_finder import PassageFinder, without_passages
from tests.data.duplicates.planted import random_words


def cleaned(texts: list[str], n_words: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        finder = PassageFinder(Path(folder), n_words)
        for text in texts:
            finder.add(text)
        finder.finish()
        return [without_passages(text, finder.repeated(i)) for i, text in enumerate(texts)]


def test_a_planted_passage_stays_once_and_the_text_around_it_is_whole() -> None:
    rng = random.Random(0)
    passage = " ".join(random_words(rng, 50))
    around = [[" ".join(f"{t}.{k}.{i}" for i in range(60)) for k in range(2)] for t in range(3)]
    spaced = passage.replace(" ", "\n", 7)
    texts = [
        f"{around[0][0]}\n\n{passage}\n\n{around[0][1]}",
        f"{spaced} {around[1][0]}\n\n{passage}\n\n{around[1][1]}",  # twice in one text
        f"{around[2][0]} {around[2][1]}",
        passage,
    ]
    assert cleaned(texts, 50) == [
        texts[0],
        f"{around[1][0]}\n\n{around[1][1]}",
        texts[2],
        "",
    ]


def test_a_passage_one_word_shorter_stays_everywhere() -> None:
    rng = random.Random(1)
    passage = " ".join(random_words(rng, 49))
    texts = [f"{k}1 {k}2 {passage} {k}3 {k}4" for k in "abc"]
    assert cleaned(texts, 50) == texts


def removed_words(texts: list[list[str]], n: int) -> list[set[int]]:
    """The rule, word by word: a window that occurred before loses its words, behind its first occurrence."""
    first: dict[tuple[str, ...], tuple[int, int]] = {}
    removed: list[set[int]] = [set() for _ in texts]
    for t, words in enumerate(texts):
        for i in range(len(words) - n + 1):
            t0, i0 = first.setdefault(tuple(words[i : i + n]), (t, i))
            if (t0, i0) != (t, i):
                removed[t] |= set(range(max(i, i0 + n) if t0 == t else i, i + n))
    return removed


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30), max_size=5), st.integers(2, 4))
def test_it_is_the_rule_word_by_word(texts: list[list[str]], n: int) -> None:
    expected = [
        " ".join(word for i, word in enumerate(words) if i not in gone)
        for words, gone in zip(texts, removed_words(texts, n), strict=True)
    ]
    results = cleaned([" ".join(words) for words in texts], n)
    assert [" ".join(text.split()) for text in results] == expected


def test_a_file_that_is_too_large_is_sorted_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    passages = [" ".join(random_words(rng, 12)) for _ in range(20)]
    texts = [" ".join(random_words(rng, 15)) + " " + rng.choice(passages) for _ in range(80)]
    whole = cleaned(texts, 10)
    monkeypatch.setattr(passage_finder, "_SORTED_AT_ONCE", 7)
    monkeypatch.setattr(passage_finder, "_BUFFER", 50)
    assert cleaned(texts, 10) == whole
    assert whole != texts


def test_other_alphabets_and_odd_white_space() -> None:
    text = "één twee\tdrie\u00a0vier vijf 一 二 三\nquatre"
    assert cleaned([text, f"vor {text} nach"], 3) == [text, "vor nach"]
