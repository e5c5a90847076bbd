"""A browser in front of the studio: one headless chromium and one server for the tests of this folder.

`visit(path, width, scheme)` opens a page. When the test ends it fails for every error on a page's console and for every
request that is not to the studio. Playwright's loop runs in the tests' thread while the browser is open, so a test of
this folder does not call `asyncio.run`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving.studio.browsing import Visits, chromium_path, free_port, run_playwright, wait_for_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Headless chromium, or a skip that says how to get it."""
    path = chromium_path()
    if path is None:
        pytest.skip("no browser: apt install chromium (Debian), or set PARAKIT_CHROMIUM to one")
    with run_playwright(path) as opened:
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
    return folder


@pytest.fixture(scope="package")
def studio_url(
    browser: Browser, studio_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a studio that runs in a process of its own on `studio_folder`."""
    port = free_port()
    log = tmp_path_factory.mktemp("studio-log") / "studio.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "tests.serving.studio.studio_server", str(studio_folder), str(port)]
    with log.open("w") as lines:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=lines, stderr=lines)
    try:
        wait_for_server(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
