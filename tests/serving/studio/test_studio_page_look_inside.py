"""What a person does and sees on the page Look inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from parakit.common.errors import UserError
from parakit.serving.studio.look_inside.senses_tab import read_sentences
from tests.serving.studio.browsing import SCHEMES, WIDTHS
from tests.short_suite import crossed

if TYPE_CHECKING:
    from playwright.sync_api import Page

MODEL = "primer / finetune"


@pytest.fixture
def opened(visit: Callable[..., Page]) -> Callable[..., Page]:
    """`opened(tab, model, width, scheme)`: the page with a model at a tab."""

    def open_page(tab: str = "", model: str = MODEL, width: int = 1280, scheme: str = "light") -> Page:
        page = visit("/look-inside", width, scheme)
        page.get_by_text("parameters").first.wait_for()
        page.get_by_label("Model", exact=True).first.fill(model)
        page.get_by_role("option", name=model).first.click()
        page.get_by_text("parameters").first.wait_for()
        if tab:
            page.get_by_role("tab", name=tab).click()
        return page

    return open_page


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_attention_answers_a_pointer_at_once(opened: Callable[..., Page], width: int, scheme: str) -> None:
    page = opened(width=width, scheme=scheme)
    page.get_by_label("Text").first.fill("The bird sees a red tree.")
    page.get_by_role("button", name="Look", exact=True).first.click()
    view = page.locator(".attention-view[data-drawn]")
    view.wait_for()
    tokens = view.locator("#text .token")
    assert tokens.count() >= 6
    assert view.locator("#grid button").count() == 4  # layers of one head
    sent = []
    page.on("websocket", lambda socket: sent.append(socket))
    last = tokens.nth(tokens.count() - 1)
    word = last.inner_text().strip()
    last.hover()
    view.locator("#status b").first.wait_for()
    assert view.locator("#status b").first.inner_text().strip() == word
    view.locator("#layer").select_option("3")
    view.locator("#map-note").scroll_into_view_if_needed()  # what is not on the screen is not painted
    view.locator("#map-note", has_text="Layer 3").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("model", ["tiny-bert", pytest.param("tiny-t5", marks=pytest.mark.long)])
def test_attention_of_the_other_families(opened: Callable[..., Page], model: str) -> None:
    page = opened(model=model)
    page.get_by_role("button", name="Look", exact=True).first.click()
    page.locator(".attention-view[data-drawn]").wait_for()
    options = page.locator(".attention-view #group option")
    assert options.count() == (3 if model == "tiny-t5" else 1)


def test_a_behaviour_and_its_heads(opened: Callable[..., Page]) -> None:
    page = opened("Behaviours")
    page.get_by_label("At most").click()
    page.get_by_role("option", name="8 pairs").click()
    card = page.locator("section", has_text="The verb agrees across a distractor")
    card.get_by_role("button", name="Measure").click()
    card.get_by_text("Right in 4 pairs").wait_for()
    card.get_by_role("button", name="Show head").first.click()
    page.locator(".attention-view[data-drawn]").wait_for()
    assert page.get_by_role("tab", name="Attention").get_attribute("aria-selected") == "true"


@crossed("width, scheme", WIDTHS, SCHEMES)
def test_layers_predict(opened: Callable[..., Page], width: int, scheme: str) -> None:
    page = opened("Layers", width=width, scheme=scheme)
    page.get_by_role("button", name="Look", exact=True).last.click()
    page.get_by_text("darker where it is surer").wait_for()
    page.get_by_text("layer 4 predicts").wait_for()
    page.locator("canvas").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_words_near_a_word_and_texts(opened: Callable[..., Page]) -> None:
    page = opened("Words")
    page.get_by_label("Words, with commas between").fill("the, bird")
    page.get_by_role("button", name="Nearest words").click()
    page.get_by_text("principal components, with").wait_for()
    page.get_by_role("button", name="Compare the texts").click()
    page.locator("canvas").nth(3).wait_for()
    page.get_by_label("is to").fill("")
    page.get_by_role("button", name="Answer").click()
    page.get_by_text("An analogy has three words").wait_for()


def test_two_stages_of_a_build_are_compared(opened: Callable[..., Page]) -> None:
    page = opened("Compare")
    page.get_by_label("Compare with").fill("primer / pretrain")
    page.get_by_role("option", name="primer / pretrain").first.click()
    page.get_by_role("button", name="Compare the weights").click()
    page.get_by_text("norm of the difference").wait_for()
    page.get_by_role("button", name="Compare predictions").click()
    page.locator('[aria-label="Predictions of both models"] td').first.wait_for()


def test_the_senses_of_a_word_are_told_apart_layer_by_layer(opened: Callable[..., Page]) -> None:
    page = opened("Senses")
    page.get_by_role("button", name="Measure").click()
    page.get_by_text("tells them apart best").wait_for()
    assert page.get_by_role("region", name="Nearest occurrences").locator("tbody tr").count() == 16


def test_sentences_without_a_sense_are_named() -> None:
    assert read_sentences("a: b c\na: d\n\ne: f\ne: g") == {"a": ["b c", "d"], "e": ["f", "g"]}
    for text, message in (
        ("a: b\nc d", "line 2 has no sense"),
        ("a: b\na: c", "1 senses"),
        ("a: b\nc: d", "2 senses"),
    ):
        with pytest.raises(UserError, match=message):
            read_sentences(text)
