"""What a person does and sees on the pages Data and Plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.serving.studio.browsing import SCHEMES, WIDTHS
from tests.short_suite import crossed

if TYPE_CHECKING:
    from playwright.sync_api import Page


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_documents_are_searched(visit: Callable[..., Page], width: int, scheme: str) -> None:
    page = visit("/data", width, scheme)
    page.get_by_text("Row 1", exact=True).wait_for()
    page.get_by_label("Search").fill("no document has these words")
    page.get_by_text("nothing was found").wait_for()
    page.get_by_label("Search").fill("THE")
    page.get_by_text("1 to 10 of").wait_for()
    page.get_by_role("button", name="Rows after these").click()
    page.get_by_text("11 to 20 of").wait_for()
    page.get_by_role("tab", name="Left out").click()
    page.get_by_text("Nothing was left out.").wait_for()
    page.get_by_role("tab", name="Overview").click()
    page.get_by_text("Training documents by length").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_conversations_show_what_the_loss_counts(visit: Callable[..., Page], width: int, scheme: str) -> None:
    page = visit("/data", width, scheme)
    page.get_by_text("Row 1", exact=True).wait_for()
    page.get_by_label("Set", exact=True).fill("conversations")
    page.get_by_role("option", name="conversations").first.click()
    page.get_by_text("The loss counts").first.wait_for()
    counted = page.locator("section .studio-counted").first
    assert counted.evaluate("element => getComputedStyle(element).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_plans_answer_both_ways(visit: Callable[..., Page], width: int, scheme: str) -> None:
    page = visit("/plan", width, scheme)
    page.get_by_label("Machine").click()
    page.get_by_role("option", name="h100", exact=False).first.click()
    page.get_by_text("Expected loss", exact=True).wait_for()
    page.get_by_role("button", name="What would this size take?").click()
    page.get_by_text("parakit plan --size 125m --gpu").wait_for()
    page.get_by_text("Chinchilla").wait_for()
    page.get_by_role("button", name="What fits into this memory?").click()
    page.get_by_role("cell", name="QLoRA", exact=True).first.wait_for()
    page.get_by_label("Amount").fill("a lot")
    page.get_by_text("a lot").last.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
