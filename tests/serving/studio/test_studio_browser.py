"""The browser's fixtures notice what a page must not do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.serving.studio.browsing import Visits

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def test_a_page_opens_without_errors_and_without_the_network(visit: Callable[..., Page]) -> None:
    page = visit("/")
    page.get_by_role("heading", level=1).wait_for()


def test_errors_and_requests_to_elsewhere_are_noticed(browser: Browser, studio_url: str) -> None:
    visits = Visits(browser, studio_url)
    page = visits.open(
        "/studio-static/studio.css"
    )  # no page: it has no policy, which stops a request before it starts
    with page.expect_event("requestfailed"):
        page.evaluate("console.error('planted'); fetch('https://example.org/x').catch(() => 0)")
    visits.close()
    assert any("planted" in error for error in visits.console_errors)
    assert visits.outside_requests == ["https://example.org/x"]


def test_other_tests_of_the_process_run_loops_of_their_own(opened_browser: object) -> None:
    asyncio.run(asyncio.sleep(0))
