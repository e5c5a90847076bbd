"""Pictures of docs/studio.md: `python -m tests.serving.studio.take_pictures FOLDER docs/studio` starts the studio of FOLDER,
uses the pages of models and answers as a person would, and writes a picture of each. FOLDER is not changed: a copy of
links is shown.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parakit.serving.studio.page_list import PAGES, StudioPage
from tests.serving.studio.browsing import Visits, chromium_path, free_port, run_playwright, wait_for_server

WIDTH, HEIGHT = 1280, 860
PICTURED = ("/models", "/chat", "/arena", "/tokens")  # those of the others: screenshots.py
DARK = {"/chat"}  # one page shows the dark theme


def main(folder: str, output: str) -> None:
    """Write NAME.png of these pages."""
    path = chromium_path()
    if path is None:
        sys.exit("no browser: apt install chromium")
    Path(output).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "work"
        shutil.copytree(folder, root, copy_function=_link)
        log, port = Path(temporary) / "log", free_port()
        command = [sys.executable, "-m", "tests.serving.studio.studio_server", str(root), str(port)]
        with log.open("w") as lines:
            process = subprocess.Popen(command, stdout=lines, stderr=lines)
        try:
            wait_for_server(process, port, log, 300)
            with run_playwright(path) as browser:
                for page in (page for page in PAGES if page.path in PICTURED):
                    _take(Visits(browser, f"http://127.0.0.1:{port}"), page, Path(output))
        finally:
            process.terminate()
            process.wait()


def _take(visits: Visits, entry: StudioPage, output: Path) -> None:
    page = visits.open(entry.path, WIDTH, "dark" if entry.path in DARK else "light", HEIGHT)
    page.wait_for_selector(".studio-content[aria-busy=false]")
    if entry.path in PREPARE:
        PREPARE[entry.path](page)
    page.wait_for_timeout(1000)
    page.screenshot(path=output / f"{entry.path.strip('/')}.png")
    print(output / f"{entry.path.strip('/')}.png", *visits.console_errors, *visits.outside_requests)
    visits.close()


def _chat(page: Any) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    for n, text in enumerate(("What is your name?", "Where does Ben live?"), 1):
        box.fill(text)
        box.press("Enter")
        page.wait_for_function("n => document.querySelectorAll('.chat-assistant').length === n", arg=n)
        page.locator("[aria-label=Send]").wait_for(state="visible")
    page.locator(".chat-chart canvas").wait_for()
    page.wait_for_timeout(1500)
    page.locator(".chat-assistant").last.locator(".token").nth(2).hover()


def _arena(page: Any) -> None:
    for number, text in enumerate(
        ("What is your name?", "Where does Ben live?", "Who lives in Redhill?", "Tell me a story.")
    ):
        page.get_by_role("textbox", name="Prompt").fill(text)
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("heading", name="Answer B").wait_for()
        if number < 3:
            page.get_by_role("button", name=("A is better", "B is better", "Tie")[number]).click()
            page.get_by_text("Counted. A is").wait_for()


def _tokens(page: Any) -> None:
    page.locator(".token").nth(8).hover()


PREPARE: dict[str, Callable[[Any], None]] = {"/chat": _chat, "/arena": _arena, "/tokens": _tokens}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    main(*sys.argv[1:3])
