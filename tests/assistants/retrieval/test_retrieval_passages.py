"""Passages are stretches of their text that together hold all of it, under their headings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.assistants.retrieval.passages import split_passages
from tests.short_suite import examples

LINES = st.sampled_from(
    [
        "# One\n",
        "## Two\n",
        "### Three\n",
        "\n",
        "A short line.\n",
        "```\n",
        "Eins. Zwei! Drei? ",
        "x" * 90 + "\n",
    ]
)


@given(lines=st.lists(LINES, max_size=40), max_chars=st.integers(100, 300), overlap=st.integers(0, 50))
@examples(100)
def test_passages_hold_every_letter_and_are_stretches_of_the_text(lines, max_chars, overlap):
    text = "".join(lines)
    covered = [False] * len(text)
    for one in split_passages(text, max_chars, overlap):
        assert text[one.begin : one.end] == one.text
        assert 0 < len(one.text) <= max_chars
        covered[one.begin : one.end] = [True] * len(one.text)
    assert all(covered[i] or letter.isspace() for i, letter in enumerate(text))


def test_a_passage_has_the_headings_above_it():
    body = "A sentence of some length about the matter. " * 6
    text = f"# Guide\n\n{body}\n\n## Install\n\n{body}\n\n### Linux\n\n{body}\n\n## Use\n\n{body}\n"
    headings = [one.heading for one in split_passages(text, 300, 0)]
    assert headings == ["Guide", "Guide > Install", "Guide > Install > Linux", "Guide > Use"]
    assert split_passages(text, 300, 0)[1].searched.startswith("Guide > Install\n## Install")


def test_a_heading_in_fenced_code_is_none():
    text = "# Real\n\n```\n# a comment of a program\n```\n" + "More of the text here. " * 20
    assert {one.heading for one in split_passages(text, 200, 0)} == {"Real"}


def test_short_sections_share_a_passage_under_what_their_headings_share():
    text = "# Guide\n\n## One\n\nShort.\n\n## Two\n\nShort too.\n"
    assert [(one.heading, one.text) for one in split_passages(text, 300, 0)] == [("Guide", text.strip())]


def test_the_overlap_is_whole_sentences_within_the_limit():
    text = " ".join(f"Sentence number {i} has a few words." for i in range(40))
    passages = split_passages(text, 300, 80)
    for before, after in itertools.pairwise(passages):
        shared = text[after.begin : before.end]
        assert 0 < len(shared) <= 80
        assert shared.startswith("Sentence number")
    assert len(passages) > len(split_passages(text, 300, 0))


def test_a_passage_ends_between_paragraphs_where_it_is_half_full():
    paragraph = "One sentence here. Another sentence there. A third one too."
    passages = split_passages("\n\n".join([paragraph] * 8), 200, 0)
    assert all(one.text.endswith("third one too.") for one in passages)


@pytest.mark.parametrize("text", ["", " \n\n ", "\n"])
def test_a_text_without_letters_has_no_passages(text):
    assert split_passages(text, 100, 0) == []
