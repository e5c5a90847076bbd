"""Pointing at a word of the attention page in a browser: what it looks at, as in the weights that the page was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from parakit.inspection.attention import AttentionMaps
from parakit.inspection.inputs import ModelInput
from parakit.reports.inspection.attention_page import write_attention_page
from tests.serving.studio.browsing import GET_BROWSER, WAIT, chromium_path, run_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = ("The", " animal", " was", " too", " tired")
N_LAYERS, N_HEADS = 3, 2


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """(layers, heads, queries, keys) of a causal model; no two weights of a row are alike."""
    generator = np.random.default_rng(4)
    values = np.tril(generator.random((N_LAYERS, N_HEADS, len(WORDS), len(WORDS)), np.float32) + 0.05)
    return values / values.sum(-1, keepdims=True)


@pytest.fixture
def page(weights: np.ndarray, tmp_path: Path) -> Iterator[Page]:
    """The page, opened as a file; it may load nothing, and its script may fail nowhere."""
    if (path := chromium_path()) is None:
        pytest.skip(GET_BROWSER)
    named = {f"blocks.{layer}.attention": heads for layer, heads in enumerate(weights)}
    maps = AttentionMaps(ModelInput(tuple(range(len(WORDS))), WORDS), "weights", named, {})
    file = write_attention_page(maps, tmp_path / "attention.html", model="a test")
    errors: list[str] = []
    requests: list[str] = []
    with run_playwright(path) as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        opened.set_default_timeout(WAIT)
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
        opened.goto(file.as_uri())
        opened.locator("#text .token").nth(len(WORDS) - 1).wait_for()
        yield opened
    assert not errors
    assert requests == [file.as_uri()]


def best(values: np.ndarray) -> str:
    """The word with the largest of these weights, and its share, as the page writes it."""
    share = 100 * values.max()
    return f"{WORDS[int(values.argmax())].strip()} {share:.0f} %" if share >= 9.95 else ""


def wait_for_status(page: Page, *parts: str) -> None:
    """Until the line under the text has all of these."""
    script = "parts => parts.every(part => document.getElementById('status').textContent.includes(part))"
    page.wait_for_function(script, arg=list(parts))


def test_pointing_at_a_word_shows_what_it_looks_at_layer_by_layer(page: Page, weights: np.ndarray) -> None:
    page.select_option("#layer", "1")
    page.select_option("#head", "1")
    tokens = page.locator("#text .token")
    for word in (4, 2):
        tokens.nth(word).hover()
        wait_for_status(
            page, f"{WORDS[word].strip()} looks at {best(weights[1, 1, word])}", "layer 1, head 1"
        )
        assert page.locator("#text .here").all_text_contents() == [WORDS[word]]
        assert page.locator("#arcs path").count() == word + 1  # a link to every word so far
        rows = page.locator("#layers tbody tr")
        assert rows.count() == N_LAYERS
        for layer in range(N_LAYERS):
            shown = (rows.nth(layer).text_content() or "").replace(" ", "")
            assert best(weights[layer, :, word].mean(0)).replace(" ", "") in shown
    shades = [tokens.nth(word).evaluate("element => element.style.background") for word in range(len(WORDS))]
    assert [bool(shade) for shade in shades] == [True, True, True, False, False]
    page.mouse.move(0, 0)
    page.keyboard.press("Escape")  # the page opens with a word chosen
    wait_for_status(page, "Point at a word")


def test_a_clicked_word_stays_and_keys_and_the_direction_change_what_is_shown(
    page: Page, weights: np.ndarray
) -> None:
    page.select_option("#layer", "1")
    page.select_option("#head", "0")
    tokens = page.locator("#text .token")
    tokens.nth(3).click()
    page.mouse.move(0, 0)
    wait_for_status(page, f"too looks at {best(weights[1, 0, 3])}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("]")
    wait_for_status(page, f"too looks at {best(weights[2, 1, 3])}", "layer 2, head 1")
    assert page.locator("#layer").input_value() == "2"
    page.keyboard.press("Escape")
    page.select_option("#direction", "from")
    tokens.nth(1).hover()
    column = weights[2, 1, :, 1]
    wait_for_status(page, f"animal is looked at by {best(column)}")
    page.locator("#grid button").nth(0).click()
    wait_for_status(page, "layer 0, head 0")
