"""What a person sees on the page Tokens while the text changes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

MARKED = "document.querySelectorAll('.token-text .token[data-marked]').length"


def test_a_change_of_the_text_redraws_the_tokens_that_differ(visit: Callable[..., Page]) -> None:
    page = visit("/tokens")
    page.wait_for_selector(".studio-content[aria-busy=false]")
    field = page.get_by_role("textbox", name="Text", exact=True)
    field.fill("one two three four five six seven eight")
    shown = page.locator(".token-text").first
    shown.filter(has_text="eight").wait_for()
    n = shown.locator(".token").count()
    page.evaluate("document.querySelectorAll('.token').forEach(e => e.setAttribute('data-marked', ''))")
    n_marked = page.evaluate(MARKED)
    field.fill("one two three 4 five six seven eight")
    shown.filter(has_text="4").wait_for()
    assert "".join(shown.inner_text().split()).removeprefix("<|bos|>") == "onetwothree4fivesixseveneight"
    assert n_marked - page.evaluate(MARKED) < n  # the others are the same elements
    assert shown.locator(".token[data-marked]").count() >= n // 2
    colours = shown.locator(".token").evaluate_all("all => all.map(e => /token-\\d/.exec(e.className)[0])")
    assert all(a != b for a, b in pairwise(colours))
