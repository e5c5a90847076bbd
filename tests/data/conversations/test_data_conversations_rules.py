"""Questions by rules: the facts that plain patterns find, several wordings of each, and that nothing is made up."""

from __future__ import annotations

import pytest

from parakit.common import UserError
from parakit.data.conversations.from_documents import (
    DocumentQuestionsConfig,
    PairChecker,
    Passage,
    WrittenByRules,
    pairs_by_rules,
    passages_of,
)
from parakit.data.conversations.from_documents.statements import sentences, statements_of
from parakit.data.documents import make_document

PAGE = """# Harbour Bridge

The Harbour Bridge is a steel arch bridge across the Alder. It was opened in 1931 by Maria Lindqvist, after Dr. P. Holm died.
On 3 May 1984 the bridge was closed. It carries 4,200 cars and 2 – 3 trains a day; it stands in Port Aldermoor.

Owner: Alder Trust
Length: 310 m

| Span | Width |
| --- | --- |
| North | 41 m |
| South | 44 m |
"""
CONFIG = DocumentQuestionsConfig(writer="rules", wordings=8, max_facts=50)


def found(text: str, title: str = "Harbour Bridge", has_heading: bool = True) -> set[tuple[str, str, str]]:
    return {(one.kind, one.subject, one.answer) for one in statements_of(text, title, has_heading)}


def test_dates_numbers_names_definitions_lines_and_cells_are_found() -> None:
    assert found(PAGE) == {
        ("definition", "is The Harbour Bridge", "a steel arch bridge across the Alder"),
        ("year", "", "1931"),
        ("agent", "", "Maria Lindqvist"),
        ("date", "", "3 May 1984"),
        ("count", "", "4,200"),
        ("place", "", "Port Aldermoor"),
        ("field", "Harbour Bridge", "Alder Trust"),
        ("field", "Harbour Bridge", "310 m"),
        ("field", "North", "41 m"),
        ("field", "South", "44 m"),
    }


def test_a_sentence_around_a_fact_is_the_texts_own() -> None:
    for one in statements_of(PAGE, "Harbour Bridge"):
        if one.kind not in ("field", "definition"):
            assert one.before + one.answer + one.after in PAGE.replace("\n", " ")


def test_lines_of_a_row_are_about_its_first_value() -> None:
    assert found("Name: Ada Byron\nRoom: 114\nRole: Analyst", "staff", has_heading=False) == {
        ("field", "Ada Byron", "114"),
        ("field", "Ada Byron", "Analyst"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He met Dr. Holm. They left.", ["He met Dr. Holm.", "They left."]),
        ("J. P. Holm came at 3. Then he left!", ["J. P. Holm came at 3.", "Then he left!"]),
        ('"It rains." So we stayed.', ['"It rains."', "So we stayed."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_end_at_full_stops_that_are_no_abbreviations(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


def passage(text: str = PAGE) -> Passage:
    (one,) = passages_of([make_document(text, "docs/bridge.md")[0]], CONFIG)
    return one


def test_every_fact_has_several_wordings_and_those_that_pass_the_checks_are_answered_by_the_passage() -> None:
    rules = WrittenByRules(wordings=8, max_facts=50)
    pairs, checker = pairs_by_rules(passage(), rules), PairChecker(CONFIG)
    kept = [pair for pair in pairs if checker.reason_against(pair, passage()) is None]
    assert len(kept) >= 0.8 * len(pairs)
    by_fact: dict[tuple[str, str], list[str]] = {}
    for pair in kept:
        assert pair.answer.casefold() in PAGE.casefold()
        assert pair.answer not in pair.question
        by_fact.setdefault((pair.statement, pair.answer), []).append(pair.question)
    assert len(by_fact) == 10
    assert all(len(set(questions)) >= 3 for questions in by_fact.values())
    questions = [pair.question for pair in kept]
    assert "In which year was it opened by Maria Lindqvist?" not in questions  # "it" needs the title
    assert "Harbour Bridge: in which year was it opened by Maria Lindqvist?" in questions
    assert "What is the length of Harbour Bridge?" in questions


def test_few_facts_and_wordings_are_drawn_by_themselves() -> None:
    few = pairs_by_rules(passage(), WrittenByRules(wordings=2, max_facts=3))
    assert len(few) == 6
    every = pairs_by_rules(passage(), WrittenByRules(wordings=8, max_facts=50))
    assert set(few) <= set(every)
    assert few == pairs_by_rules(passage(), WrittenByRules(wordings=2, max_facts=3))


def test_text_without_facts_gives_none() -> None:
    assert (
        pairs_by_rules(passage("so it goes on and on, and nobody knows why.\n" * 4), WrittenByRules()) == []
    )


def test_settings_of_the_other_writer_are_refused() -> None:
    with pytest.raises(UserError, match="template"):
        DocumentQuestionsConfig.parse({"writer": "rules", "template": "{passage}"}, "test")
    with pytest.raises(UserError, match="wordings"):
        DocumentQuestionsConfig.parse({"wordings": 3}, "test")
