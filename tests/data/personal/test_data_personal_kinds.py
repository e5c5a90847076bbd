"""Personal data in sentences that were made with it: how much is found, and how much else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.config import parse_step
from parakit.data.cleaning.steps import Removed
from parakit.data.collected import write_row
from parakit.data.documents import Document
from parakit.data.personal.sensitive import ALL_KINDS, STRUCTURED, find_sensitive
from tests.data.personal.labelled import TEXTS_WITHOUT, Item, named, structured


def is_found(item: Item) -> bool:
    begin = item.text.index(item.value)
    end = begin + len(item.value)
    return any(
        kind == item.kind and start <= begin + 1 and stop >= end - 1
        for kind, start, stop in find_sensitive(item.text, ALL_KINDS)
    )


def test_structured_kinds_are_found_by_form_and_checksum() -> None:
    items = structured()
    assert len(items) >= 300
    assert {item.kind for item in items} < set(STRUCTURED)
    found = [is_found(item) for item in items]
    assert sum(found) / len(found) >= 0.99, [i for i, f in zip(items, found, strict=True) if not f]


def test_names_are_found_where_they_are_wanted() -> None:
    items = named(n=160)
    assert sum(map(is_found, items)) / len(items) >= 0.85
    spans = [(i, s) for i in items for s in find_sensitive(i.text, ("name",))]
    good = [s[1] < i.text.index(i.value) + len(i.value) and s[2] > i.text.index(i.value) for i, s in spans]
    assert sum(good) / len(good) >= 0.95  # precision


@pytest.mark.parametrize("text", TEXTS_WITHOUT)
def test_dates_numbers_and_titles_are_no_personal_data(text: str) -> None:
    assert find_sensitive(text, ALL_KINDS) == []


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # Luhn
        "DE89370400440532013001",  # mod 97
        "12345678A",  # the letter is Z
        "943 476 5918 was measured",
        "86 095 742 718",
        "000-12-3456",
        "255.300.1.1",
    ],
)
def test_numbers_with_a_wrong_checksum_are_left(text: str) -> None:
    assert find_sensitive(text, set(STRUCTURED) - {"phone"}) == []


def test_the_step_replaces_leaves_out_or_reports() -> None:
    text = "Write to ann@example.org or Mr. Miller, card 4111 1111 1111 1111."
    step = parse_step("personal_data").build(Path())
    assert step(text) == "Write to [EMAIL] or Mr. Miller, card [CREDIT_CARD]."
    assert step(step(text)) == step(text)
    assert step.figures() == {"documents_with": 3, "found": {"credit_card": 3, "email": 3}}
    assert parse_step("personal_data:action=report").build(Path())(text) == text
    assert parse_step("personal_data:action=leave_out").build(Path())(text) == Removed("personal data")
    assert parse_step("personal_data:action=leave_out:min_found=3").build(Path())(text) == text
    assert "Mr. [NAME]," in parse_step("personal_data:kinds=name").build(Path())(text)
    with pytest.raises(UserError, match="is no kind"):
        parse_step("personal_data:kinds=e_mail")


def test_samples_show_no_value(tmp_path: Path) -> None:
    with open(tmp_path / "rows", "w", encoding="utf-8") as file:
        text = "x" * 230 + " Dear Anna Smith, call +49 30 1234567 or ann@example.org. " + "y" * 50
        write_row(file, 0, Document(text, "a.txt", len(text)))
    chain = CleaningChain([parse_step("personal_data:kinds=name,email,phone")], tmp_path / "work")
    chain.run(tmp_path / "rows")
    (sample,) = chain.report()[0]["samples"]
    for value in ("Anna", "Smith", "1234567", "ann@"):
        assert value not in str(sample)
    assert "[EMAIL]" in sample["after"]
