"""Items are found in text whatever its case and punctuation; what is too short, a form or a template is not."""

from __future__ import annotations

import random

import pytest

from parakit.data.documents import Document
from parakit.data.duplicates.run_table import MAX_ITEMS
from parakit.evaluation.contamination.search import ItemSearch
from parakit.evaluation.results import Item
from tests.data.duplicates.planted import random_words

QUESTION = (
    "Question: If a train leaves Paris at noon and another leaves Rome at two, when do they meet?\nAnswer:"
)
ANSWER = "They meet in Milan at twenty past seven, which is when the shops close."


def item(name: str, prompt: str, target: str = "") -> Item:
    return Item(name, prompt, target, "", {})


def around(text: str, seed: int = 0) -> str:
    rng = random.Random(seed)
    return f"{' '.join(random_words(rng, 30))} {text} {' '.join(random_words(rng, 30))}"


def searched(items: list[Item], *texts: str | Document) -> ItemSearch:
    search = ItemSearch({"exam": items})
    documents = [t if isinstance(t, Document) else Document(t, f"d{i}", len(t)) for i, t in enumerate(texts)]
    assert sum(search.read(documents)) == sum(document.n_bytes for document in documents)
    return search


@pytest.mark.parametrize(
    "change",
    [str, str.upper, lambda t: t.replace(" ", "\n"), lambda t: t.replace(" ", " - «").replace(",", "\u00a0")],
)
def test_a_question_with_its_answer_is_found_whatever_case_and_punctuation(change) -> None:
    found = searched([item("a", QUESTION, ANSWER)], around("nothing"), around(change(f"{QUESTION} {ANSWER}")))
    assert found.touched("exam")["a"].__dict__ == {"share": 1.0, "answer": True, "where": "d1"}


def test_a_question_alone_an_answer_alone_and_a_part_are_told_apart() -> None:
    items = [item("a", QUESTION, ANSWER)]
    question = searched(items, around(QUESTION)).touched("exam")["a"]
    assert (question.answer, round(question.share, 2)) == (False, 0.58)
    assert searched(items, around(ANSWER)).touched("exam")["a"].answer
    words = f"{QUESTION} {ANSWER}".replace("\n", " ").split()
    assert "a" in searched(items, around(" ".join(words[3:16]))).touched("exam")
    assert not searched(items, around(" ".join(words[3:15]))).touched("exam")


def test_a_short_line_is_looked_for_as_a_whole_and_a_shorter_item_is_too_short_to_tell() -> None:
    line = "Who painted the ceiling of the old chapel?"
    items = [item("a", f"{line}\nA. Anna\nB. Paul\nAnswer:", "B"), item("b", "Who painted it?", "Paul")]
    found = searched(items, around(line))
    assert list(found.touched("exam")) == ["a"]
    assert found.too_short("exam") == ["b"]
    assert searched([item("c", "Who?", ANSWER)], around(f"Who? {ANSWER}")).too_short("exam") == ["c"]
    assert searched([item("d", "", ANSWER)], around(ANSWER)).too_short("exam") == []
    assert not searched(items, around("Who painted the ceiling of the old church?")).touched("exam")


def test_template_and_form_are_no_content() -> None:
    rng = random.Random(1)
    form = "which of the following statements about the subject of this exam is true in every case"
    items = [
        item(str(i), f"Question: {' '.join(random_words(rng, 9))}?\n{form}\nAnswer:")
        for i in range(MAX_ITEMS + 1)
    ]
    assert not searched(items, around(form)).touched("exam")
    items[3] = item("3", items[3].prompt, "Anna and Tom")
    written = searched(items, around(f"{items[3].prompt} Anna and Tom")).touched("exam")["3"]
    assert (written.share, written.answer) == (1.0, True)
    bare = items[3].prompt.split("\n")[0].removeprefix("Question: ")
    assert list(searched(items, around(bare)).touched("exam")) == ["3"]


def test_every_item_that_has_a_run_is_found_and_of_every_benchmark() -> None:
    passage = " ".join(random_words(random.Random(2), 20))
    items = [item("a", f"{passage} why?"), item("b", f"{passage} when?")]
    search = ItemSearch({"one": items, "two": items[:1], "none": []})
    list(search.read([Document(around(passage), "d", 1)]))
    assert list(search.touched("one")) == ["a", "b"]
    assert list(search.touched("two")) == ["a"]
    assert search.touched("none") == {}


def test_pieces_of_a_source_are_one_text_and_other_documents_are_not() -> None:
    words = f"{QUESTION} {ANSWER}".split()
    items = [item("a", QUESTION, ANSWER)]
    parts = [" ".join(words[1:10]), " ".join(words[10:16])]
    assert searched(items, *(Document(part, "book", len(part)) for part in parts)).touched("exam")
    assert not searched(items, *parts).touched("exam")
    search = ItemSearch({"exam": items})
    long = [around("x " * 140_000), parts[0]]  # two batches, cut inside the source
    list(search.read(Document(part, "book", len(part)) for part in (*long, parts[1])))
    assert search.touched("exam")


def test_a_paraphrase_is_not_found() -> None:
    text = "One train departs from Paris at twelve, a second one from Rome two hours later. At what time do both meet?"
    assert not searched([item("a", QUESTION, ANSWER)], around(text)).touched("exam")
