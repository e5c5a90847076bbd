"""Leaks of suites: found whatever their case and punctuation, and wherever they are; other texts are left alone."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.duplicates.leak_finder import MIN_WORDS, LeakFinder
from parakit.data.duplicates.run_table import MAX_ITEMS
from parakit.data.duplicates.shingles import word_hashes
from parakit.data.duplicates.suite_files import suite_texts
from tests.data.duplicates.planted import random_words

QUESTION = "If a train leaves Paris at noon, and another leaves Rome at two, when do they meet in Milan?"
SHORT = "Who painted the ceiling of the chapel?"


def planted(text: str, rng: random.Random) -> str:
    kind = rng.randrange(3)
    if kind:
        text = text.upper() if kind == 1 else re.sub(r"[^\w\s]", " «-» ", text).replace(" ", "\u00a0\n", 2)
    return f"{' '.join(random_words(rng, 30))} {text}. {' '.join(random_words(rng, 30))}"


def test_leaks_are_found_in_other_text() -> None:
    finder = LeakFinder([("exam", QUESTION), ("exam", SHORT), ("exam", "Paris")])
    rng = random.Random(0)
    for _ in range(10):
        for text, n in ((QUESTION, 19), (SHORT, 7)):
            (leak,) = finder.find(planted(text, rng))
            assert (leak.suite, leak.first, leak.last) == ("exam", 30, 30 + n)
    assert finder.n_items == {"exam": 2}
    assert finder.too_short == {"exam": 1}


def test_a_part_of_a_long_item_is_a_leak_from_thirteen_words_on_and_of_a_short_one_none() -> None:
    finder = LeakFinder([("exam", QUESTION), ("exam", SHORT)])
    words = QUESTION.split()
    assert finder.find(" ".join(["so", *words[2:15], "no"]))
    assert not finder.find(" ".join(["so", *words[2:14], "no"]))
    assert not finder.find("Who painted the ceiling of the church?")


def test_the_form_of_a_suite_is_no_leak_but_what_has_nothing_else_is() -> None:
    form = "which of the following statements about the subject of this exam is true in every case"
    rng = random.Random(0)
    items = [("exam", f"{form} {' '.join(random_words(rng, 20))}") for _ in range(MAX_ITEMS + 1)]
    assert not LeakFinder(items).find(f"I wonder {form} and so on")
    assert LeakFinder([*items, ("exam", form)]).find(f"I wonder {form} and so on")
    assert all(LeakFinder(items).find(text) for _, text in items)


def test_suites_are_read_from_rows_tables_and_plain_text(tmp_path: Path) -> None:
    row = {"question": QUESTION, "choices": [SHORT, {"text": "no"}], "n": 3}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write(f'id,question\n1,"{QUESTION}"\n')
    (tmp_path / "c.txt").write_text(f"{QUESTION}\nmore\n\n\n{SHORT}\n")
    assert list(suite_texts(tmp_path / "a.jsonl")) == [("a", QUESTION), ("a", SHORT), ("a", "no")]
    assert ("b", QUESTION) in list(suite_texts(tmp_path / "b.csv.gz"))
    assert list(suite_texts(tmp_path / "c.txt")) == [("c", f"{QUESTION}\nmore"), ("c", SHORT)]
    assert {suite for suite, _ in suite_texts(tmp_path)} == {"a", "b", "c"}
    with pytest.raises(UserError, match="no such file"):
        list(suite_texts(tmp_path / "d.jsonl"))


@pytest.mark.long
def test_planted_leaks_of_public_suites_are_found_and_books_are_left_alone(
    public_data: Callable[[str], Path],
) -> None:
    items = [
        item
        for name in ("gsm8k/test", "humaneval/HumanEval", "lambada_openai/lambada_test", "mbpp/mbpp")
        for item in suite_texts(public_data(name.split("/")[0]) / f"{name.split('/')[1]}.jsonl.gz")
    ]
    items += suite_texts(public_data("truthfulqa") / "TruthfulQA.csv.gz")
    finder = LeakFinder(items)
    books = []
    for path in sorted(public_data("gutenberg").glob("*.txt.gz")):
        book = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        books += [book[i : i + 20_000] for i in range(0, len(book), 20_000)]
    assert sum(bool(finder.find(book)) for book in books) <= 0.01 * len(books)
    rng = random.Random(0)
    long_enough = [item for item in items if len(word_hashes([item[1]])[0]) >= MIN_WORDS]
    leaks = rng.sample(long_enough, 1_000)
    found = sum(any(leak.suite == suite for leak in finder.find(planted(text, rng))) for suite, text in leaks)
    assert found >= 0.99 * len(leaks)
