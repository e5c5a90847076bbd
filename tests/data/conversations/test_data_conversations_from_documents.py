"""Pairs out of documents: the form, every check, and that the words of the answer are the passage's."""

from __future__ import annotations

import pytest

from parakit.common import UserError
from parakit.data.conversations.from_documents import (
    DocumentQuestionsConfig,
    Pair,
    PairChecker,
    Passage,
    lacks_answer,
    parse_pairs,
    passages_of,
)
from parakit.data.documents import make_document
from tests.sample_text import sentences

TEXT = (
    "The Harbour Bridge of Aldermoor was opened in 1931 and reported to have cost 4,200 pounds. "
    "Its engineer, Maria Lindqvist, had built two lighthouses before."
)
PASSAGE = Passage(TEXT, "docs/harbour_bridge.txt", "docs/harbour_bridge.txt", "ab12")
GOOD = Pair("When was the Harbour Bridge of Aldermoor opened?", "It was opened in 1931.")


@pytest.mark.parametrize(
    ("text", "pairs", "n_wrong"),
    [
        (
            "Q: Who?\nA: Maria.\n\nQ: When?\nA: In 1931,\nin May.",
            [("Who?", "Maria."), ("When?", "In 1931, in May.")],
            0,
        ),
        (
            "1. **Q:** Who?\n**A:** Maria.\n2. Question: When?\nAnswer: 1931.",
            [("Who?", "Maria."), ("When?", "1931.")],
            0,
        ),
        ("Here are some:\nQ: Who?\nA: Maria.", [("Who?", "Maria.")], 1),
        ("Q: Who?\nQ: When?\nA: 1931.", [("When?", "1931.")], 1),
        ("A: 1931.\nQ: Who?\nA:", [], 2),
        ("Q: Who?\nand why?\nA: Maria.", [], 2),
        ("nothing at all", [], 1),
        ("", [], 0),
    ],
)
def test_only_pairs_in_the_form_are_read(text: str, pairs: list[tuple[str, str]], n_wrong: int) -> None:
    found, wrong = parse_pairs(text)
    assert [(one.question, one.answer) for one in found] == pairs
    assert wrong == n_wrong


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        (GOOD.question, GOOD.answer, None),
        ("Who was the engineer of the Harbour Bridge?", "Maria Lindqvist", None),
        ("What did reports say of the bridge's costs?", "They reported costs of 4,200 pounds.", None),
        ("Who was its engineer", "Maria Lindqvist", "no question"),
        ("Bridge cost?", "4,200 pounds", "too short"),
        ("Who opened the Harbour Bridge?", "Queen Victoria", "not in the passage"),
        ("When was the Harbour Bridge opened?", "It was opened in 1932.", "not in the passage"),
        ("Is the bridge of Aldermoor old?", "Yes.", "no content"),
        ("Was Maria Lindqvist the engineer of the bridge?", "Maria Lindqvist", "gives the answer away"),
        ("What was opened in 1931 in Aldermoor?", "The Harbour Bridge", "title gives the answer away"),
        ("What does the passage say about the bridge?", "It was opened in 1931.", "as a text"),
        ("Which colour do most elephants have?", "Maria Lindqvist", "not about the passage"),
        ("How much did the bridge cost in pounds?", "4,200 pounds " * 70, "too long"),
    ],
)
def test_a_pair_is_checked_against_its_passage(question: str, answer: str, reason: str | None) -> None:
    found = PairChecker(DocumentQuestionsConfig()).reason_against(Pair(question, answer), PASSAGE)
    assert found is reason or (reason is not None and found is not None and reason in found)


def test_support_can_be_lowered_but_a_number_must_be_there() -> None:
    lenient = PairChecker(DocumentQuestionsConfig(min_support=0.5))
    assert (
        lenient.reason_against(Pair("Who built the Harbour Bridge?", "Maria Lindqvist of Stockholm"), PASSAGE)
        is None
    )
    found = lenient.reason_against(Pair("What did the Harbour Bridge cost?", "It cost 9,200 pounds"), PASSAGE)
    assert found == "a number of the answer is not in the passage"


def test_duplicates_are_found_whatever_their_case_and_order() -> None:
    checker = PairChecker(DocumentQuestionsConfig())
    assert checker.reason_against(GOOD, PASSAGE) is None
    for question in (
        "when was the harbour bridge of aldermoor opened ?",
        "Opened when was Aldermoor's Harbour Bridge?",
    ):
        found = checker.reason_against(Pair(question, "In 1931."), PASSAGE)
        assert found == "a duplicate of another question", question


def test_a_passage_of_another_file_without_the_answer_lacks_it() -> None:
    other = Passage("Lighthouses are painted white.", "docs/b.txt", "docs/b.txt", "cd34")
    assert lacks_answer(GOOD, other, PASSAGE)
    assert not lacks_answer(GOOD, PASSAGE, PASSAGE)
    same = Passage("All was opened in 1931.", "docs/b.txt", "docs/b.txt", "cd34")
    assert not lacks_answer(GOOD, same, PASSAGE)


def test_passages_do_not_depend_on_other_documents() -> None:
    documents = [make_document(sentences(i, 60), f"{i}.txt")[0] for i in range(6)]
    config = DocumentQuestionsConfig(passage_chars=300, passages_per_document=2)
    whole = passages_of(documents, config)
    assert len(whole) == 12
    assert all(len(one.text) <= 300 and one.text in documents[int(one.file[0])].text for one in whole)
    alone = passages_of(documents[2:3], config)
    assert set(alone) == {one for one in whole if one.file == "2.txt"}
    assert passages_of(reversed(documents), config) == whole


def test_a_template_needs_the_passage_and_nothing_in_a_passage_is_replaced() -> None:
    config = DocumentQuestionsConfig(template="Write {n}: {passage} ({source})", n_questions=5)
    assert config.request("a {n} b {source}", "x.txt") == "Write 5: a {n} b {source} (x.txt)"
    for template, match in (("Write {n}.\n", "must have {passage} once"), ("/no/such/file", "no such file")):
        with pytest.raises(UserError, match=match):
            DocumentQuestionsConfig.parse({"template": template}, "test")
