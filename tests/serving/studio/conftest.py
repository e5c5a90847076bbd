"""A browser in front of the studio: one headless chromium and one server for the tests of this folder.

`visit(path, width, scheme)` opens a page. When the test ends it fails for every error on a page's console and for every
request that is not to the studio. Playwright's loop counts as the running one only inside of a test that uses it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving.studio.browsing import (
    GET_BROWSER,
    Visits,
    chromium_path,
    loop_set_aside,
    loop_taken_up,
    run_playwright,
    running_studio,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def opened_browser() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """Headless chromium and the loop that drives it, which is set aside between tests; or a skip that says how to get it."""
    path = chromium_path()
    if path is None:
        pytest.skip(GET_BROWSER)
    with run_playwright(path) as opened, loop_set_aside() as loop:
        yield opened, loop


@pytest.fixture
def browser(opened_browser: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    """Headless chromium."""
    opened, loop = opened_browser
    with loop_taken_up(loop):
        yield opened


@pytest.fixture(scope="session")
def studio_folder(
    tmp_path_factory: pytest.TempPathFactory,
    primer_build: tuple[Path, dict[str, Any]],
    published_decoder: Path,
    published_encoder: Path,
) -> Path:
    """What the studio shows: a finished build, a chat model and an encoder of two layers; the tests may add to it."""
    folder = tmp_path_factory.mktemp("studio")
    shutil.copytree(primer_build[0], folder / "builds")
    for model in (published_decoder, published_encoder):
        shutil.copytree(model, folder / "models" / model.name)
    write_encoder_decoder(folder / "models" / "tiny-t5")
    return folder


def write_encoder_decoder(folder: Path) -> None:
    """A T5 of two layers that nobody trained."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from tests.tiny_published import write_tokenizer

    torch.manual_seed(0)
    vocab_size = write_tokenizer(folder, template=None)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": vocab_size}
    special = {"pad_token_id": 2, "eos_token_id": 2, "decoder_start_token_id": 2}
    config = T5Config(**sizes, **special, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    T5ForConditionalGeneration(config).save_pretrained(folder)


@pytest.fixture(scope="package")
def studio_url(
    opened_browser: object, studio_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a studio that runs in a process of its own on `studio_folder`; no studio where there is no browser."""
    with running_studio(studio_folder, tmp_path_factory.mktemp("studio-log") / "studio.log") as url:
        yield url


@pytest.fixture
def visit(browser: Browser, studio_url: str) -> Iterator[Callable[..., Page]]:
    """`visit(path, width=1280, scheme="light")`: an open page of the studio, watched until the test ends."""
    visits = Visits(browser, studio_url)
    try:
        yield visits.open
    finally:
        visits.close()
    assert visits.console_errors == [], "the page's console has errors"
    assert visits.outside_requests == [], "the page wants something from outside"
