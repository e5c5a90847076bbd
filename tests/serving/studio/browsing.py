"""What the browser's fixtures are made of: finding chromium, a page that is watched, a server that is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

ROOT = Path(__file__).resolve().parents[3]
GET_BROWSER = "no browser: apt install chromium (Debian), or set PARAKIT_CHROMIUM to one"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEIGHTS = {400: 800}  # of a telephone; a desk's otherwise
WAIT = 120_000  # milliseconds that a test waits for what should be there; the machine may be busy
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")

Scheme = Literal["light", "dark"]


def chromium_path() -> str | None:
    """The browser of PARAKIT_CHROMIUM or of the search path."""
    return os.environ.get("PARAKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def run_playwright(path: str) -> Iterator[Browser]:
    """A headless browser that knows no host but this machine: what a page wants from elsewhere fails, and is noted by
    `Visits`. Root has no sandbox of its own, so chromium's is off for it; the pages are this project's own.
    """
    from playwright.sync_api import sync_playwright

    hosts = ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {name}" for name in LOOPBACK)])
    arguments = ["--disable-dev-shm-usage", "--disable-gpu", f"--host-resolver-rules={hosts}"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def loop_set_aside() -> Iterator[asyncio.AbstractEventLoop]:
    """No loop runs in this thread inside of the block; yields the one that ran. Playwright's never ends while its browser
    is open, so without this every `asyncio.run` of another test in the same process fails.
    """
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield loop
    finally:
        asyncio._set_running_loop(loop)


@contextlib.contextmanager
def loop_taken_up(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Inside of the block `loop` is the thread's running one."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@contextlib.contextmanager
def running_studio(folder: Path, log: Path) -> Iterator[str]:
    """The address of a studio in a process of its own; what it prints goes to `log`."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "tests.serving.studio.studio_server", str(folder), str(port)]
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


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for_server(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 60) -> None:
    """Return when the port answers; an error with the end of its log where the process ended or the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the studio did not start (exit {process.poll()}):\n{log.read_text()[-4000:]}")


class Visits:
    """Pages of one test, with what they wrote to the console and what they wanted from elsewhere."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser, self.url = browser, url
        self.contexts: list[BrowserContext] = []
        self.console_errors: list[str] = []
        self.outside_requests: list[str] = []
        self.requests: list[str] = []

    def open(self, path: str = "/", width: int = 1280, scheme: Scheme = "light", height: int = 0) -> Page:
        """A page in a context of its own; at once, without waiting for its content."""
        context = self.browser.new_context(
            viewport={"width": width, "height": height or HEIGHTS.get(width, 900)},
            color_scheme=scheme,
            reduced_motion="reduce",
            service_workers="block",
        )
        context.set_default_timeout(WAIT)
        context.set_default_navigation_timeout(2 * WAIT)  # the first page waits for imports
        context.on("request", lambda request: self._note_request(request.url))
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.console_errors.append(f"{error.page.url}: {error.error}"))
        self.contexts.append(context)
        page = context.new_page()
        page.on("websocket", lambda opened: self._note_request(opened.url))
        page.goto(f"{self.url}{path}")
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.contexts.clear()

    def _note_request(self, url: str) -> None:
        self.requests.append(url)
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in LOOPBACK:
            self.outside_requests.append(url)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console_errors.append(f"{message.location.get('url')}: {message.text}")
