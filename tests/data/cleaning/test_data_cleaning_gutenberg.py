"""Project Gutenberg's header and licence go, the book stays; a text that quotes the markers is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.data.cleaning.gutenberg import strip_gutenberg
from parakit.data.read_report import ReadReport

START = "*** START OF THIS PROJECT GUTENBERG EBOOK EMMA ***\n"
END = "*** END OF THIS PROJECT GUTENBERG EBOOK EMMA ***\n"
BOOK = "\nCHAPTER I\n\nEmma Woodhouse, handsome, clever, and rich\n***\n"


def strip(text: str) -> tuple[str, ReadReport]:
    report = ReadReport()
    return "".join(strip_gutenberg(text.splitlines(keepends=True), report)), report


@pytest.mark.parametrize(
    "start",
    [
        START,
        "***START OF THE PROJECT GUTENBERG EBOOK EMMA***\n",
        "*** START OF THE PROJECT GUTENBERG EBOOK, THE LONG\nTITLE OF A BOOK ***\n",
        "*** START OF THIS PROJECT GUTENBERG EBOOK EMMA\n",
    ],
)
def test_only_the_book_is_kept(start: str) -> None:
    text, report = strip(
        "The Project Gutenberg eBook\n\n" + start + BOOK + END + "*** START: FULL LICENSE ***\nterms\n"
    )
    assert text == BOOK
    assert report.headers_stripped == 1
    assert report.stripped_chars == len(start) + len(END) + 29 + 34


def test_several_books_in_one_text_are_all_kept() -> None:
    text, report = strip(f"header\n{START}one\n{END}licence\nheader\n{START}two\n{END}licence\n")
    assert text == "one\ntwo\n"
    assert report.headers_stripped == 2


def test_a_book_without_its_end_is_kept_to_the_end() -> None:
    assert strip(START + BOOK)[0] == BOOK


@pytest.mark.parametrize(
    "text",
    [
        "plain\n",
        BOOK + END + "and on\n",  # an end without a start
        f"It says '{START.strip()}' there.\n{BOOK}",  # quoted inside a line
        "x" * 70_000 + "\n" + START + BOOK,  # too far in to be a header
        "*** START: FULL LICENSE ***\n",
    ],
)
def test_other_texts_keep_every_byte(text: str) -> None:
    assert strip(text)[0] == text
    assert strip(text)[1].headers_stripped == 0


@given(st.lists(st.sampled_from([START, END, BOOK, "\n", "a line\n"])))
def test_blocks_do_not_matter_and_kept_and_stripped_make_the_whole(parts: list[str]) -> None:
    whole = "".join(parts)
    text, report = strip(whole)
    assert "".join(strip_gutenberg([whole] if whole else [], ReadReport())) == text
    assert len(text) + report.stripped_chars == len(whole)
