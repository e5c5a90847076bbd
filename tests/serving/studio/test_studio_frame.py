"""What every page of the studio has: navigation, theme, one heading, a security policy; tried in a real browser."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from parakit.serving.studio.page_list import PAGES
from tests.serving.studio.browsing import Visits


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_every_page_opens_and_fits(visit, width, scheme):
    for entry in PAGES:
        page = visit(entry.path, width, scheme)
        page.wait_for_selector("main h1")
        assert page.locator("h1").inner_text() == entry.title
        assert page.evaluate("document.body.classList.contains('body--dark')") == (scheme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 400:
            page.get_by_role("button", name="Menu").click()
        links = page.locator("nav[aria-label=Pages] a")
        links.last.wait_for()
        titles = [text.splitlines()[-1] for text in links.all_inner_texts()]  # before it is the icon's name
        assert titles == [other.title for other in PAGES]
        current = page.locator("[aria-current=page]")
        assert current.inner_text().splitlines()[-1] == entry.title


def test_the_theme_is_switched_and_remembered(visit, studio_url):
    page = visit("/models")
    for name in ("auto", "light"):
        page.get_by_role("button", name=f"Theme: {name}. Change it").click()
    page.wait_for_selector("body.body--dark")
    page.goto(studio_url + "/models")
    page.wait_for_selector("body.body--dark")


def test_the_keyboard_reaches_the_page_first(visit):
    page = visit("/models")
    page.wait_for_selector("main h1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Skip to the page"


def test_a_script_in_the_markup_does_not_run(browser, studio_url):
    visits = Visits(browser, studio_url)  # the browser reports what it blocked
    page = visits.open("/models")
    page.wait_for_selector("main h1")
    blocked = page.evaluate(
        """() => new Promise(done => {
            document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));
            document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.ran = 1">');
            setTimeout(() => done('ran: ' + window.ran), 5000);
        })"""
    )
    assert blocked.startswith("script-src")
    visits.close()


def test_pages_name_a_policy_and_static_files_are_no_pages(studio_url):
    with urllib.request.urlopen(studio_url + "/models") as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    with urllib.request.urlopen(studio_url + "/studio-static/studio.css") as answer:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" not in answer.headers


def test_an_unknown_path_of_the_api_is_no_page(studio_url):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(studio_url + "/v1/nothing")
    assert refused.value.code == 404
    assert refused.value.headers["content-type"] == "application/json"
    refused.value.close()
