"""The frame around every page: navigation, theme, keyboard, errors.

A page has a link that skips the navigation, one `main`, one `h1`, and links with `aria-current`. The theme is light, dark,
or the system's; the choice is in a cookie, and nothing about a visitor is stored on the server.
"""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from nicegui import app as nicegui
from nicegui import ui
from nicegui.elements.dark_mode import DarkMode

from parakit.common.errors import UserError
from parakit.serving.studio import report_files
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.page_list import HOME, PAGES, PageBuilder, StudioPage

STATIC = Path(__file__).parent / "static"
STATIC_URL = "/studio-static"
THEMES = {"auto": ("brightness_auto", None), "light": ("light_mode", False), "dark": ("dark_mode", True)}
THEME_COOKIE = "parakit_theme"
_COOKIE_SCRIPT = "document.cookie = '{name}={value}; path=/; max-age=31536000; samesite=strict'"

_contexts: list[
    StudioContext
] = []  # the one of this process: NiceGUI's app and its routes are the process's, too


def nicegui_app(context: StudioContext) -> FastAPI:
    """NiceGUI inside a FastAPI app, with a route for every page. The routes are registered once a process."""
    if not _contexts:
        nicegui.add_static_files(STATIC_URL, STATIC, max_cache_age=0)
        ui.add_css(f"@import url('{STATIC_URL}/studio.css');", shared=True)
        nicegui.add_api_route(f"{report_files.URL}/{{file}}", _report, methods=["GET"])
        for page in PAGES:
            _register(page, page.path)
        _register(HOME, "/")
    _contexts[:] = [context]
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ui.run_with(
        app,
        title="Parakit studio",
        favicon=STATIC / "favicon.svg",
        tailwind=False,  # its compiler in the browser costs a third of a second a page
        language="en-US",
        show_welcome_message=False,
        reconnect_timeout=10.0,
    )
    return app


async def _build(builder: PageBuilder) -> None:
    """The content of a page, or what stands in its way."""
    try:
        built = builder(current_context())
        if inspect.isawaitable(built):
            await built
    except UserError as error:
        error_panel(error)


async def _report(file: str, folder: str) -> Response:
    return await report_files.serve_report(current_context().root, folder, file)


def current_context() -> StudioContext:
    """What the pages of this process work on."""
    return _contexts[0]


def _register(page: StudioPage, path: str) -> None:
    def show(request: Request) -> None:
        _frame(page, request.cookies.get(THEME_COOKIE, "auto"))
        main = ui.element("main").classes("studio-page")
        ui.skip_link("Skip to the page", target=main)
        with main:
            with ui.element("header").classes("studio-title"):
                heading(page.title, 1)
                ui.label(page.summary).classes("studio-muted")
            content = ui.element("div").props("aria-busy=true").classes("studio-content")
        with content:
            ui.spinner(size="lg").props('aria-label="Loading"')

        async def fill() -> None:
            builder = await asyncio.to_thread(lambda: page.builder)  # its imports may take seconds
            content.clear()
            with content:
                await _build(builder)
            content.props("aria-busy=false")

        # behind the first answer: the frame is there at once, whatever a page reads or imports
        ui.timer(0, fill, once=True)

    ui.page(path, title=f"{page.title} · Parakit")(show)


def current_account() -> Any:
    """Who opened this page, as the server's authentication found it; None where it has no accounts."""
    return ui.context.client.request.scope.get("state", {}).get("account")


def heading(text: str, level: int = 2) -> ui.element:
    """A heading; its text is shown as it is."""
    element = ui.element(f"h{level}").classes(f"studio-h{level}")
    with element:
        ui.label(text).props("role=presentation")
    return element


def error_panel(error: UserError) -> None:
    """What is wrong and the way out, in the place of what cannot be shown."""
    with ui.element("section").props('role=alert aria-label="Error"').classes("studio-card studio-error"):
        ui.label(error.message).classes("text-weight-medium")
        if error.hint:
            ui.label(error.hint).classes("studio-muted")


def notify_error(error: Exception) -> None:
    """A user's mistake as a message at the bottom of the page; any other error is named, too, and logged by NiceGUI."""
    if isinstance(error, UserError):
        ui.notify(error.message, caption=error.hint, type="negative", timeout=10_000, close_button="Close")
    else:
        message = f"{type(error).__name__}: {error}"
        ui.notify(message, type="negative", timeout=0, close_button="Close")


def _frame(page: StudioPage, theme: str) -> None:
    ui.on_exception(notify_error)
    theme = theme if theme in THEMES else "auto"
    dark = ui.dark_mode(THEMES[theme][1])
    with ui.header(elevated=False).classes("studio-bar"):
        menu = ui.button(icon="menu").props('flat round dense aria-label="Menu"').classes("lt-md")
        with (
            ui.element("a").props('href="/" aria-label="Parakit studio, start page"').classes("studio-brand")
        ):
            ui.image(f"{STATIC_URL}/favicon.svg").props('alt="" width=28px no-spinner no-transition')
            ui.label("Parakit")
        ui.space()
        _theme_button(dark, theme)
    with (
        ui.left_drawer(value=False, bordered=True)
        .props("show-if-above width=220 breakpoint=1023")
        .classes("studio-nav") as drawer
    ):
        menu.on_click(drawer.toggle)
        with ui.element("nav").props('aria-label="Pages"'):
            for number, entry in enumerate(PAGES, start=1):
                _link(entry, entry is page, number)


def _link(entry: StudioPage, is_current: bool, number: int) -> None:
    link = ui.element("a").props(f'href="{entry.path}" accesskey={number}').classes("studio-link")
    if is_current:
        link.props('aria-current="page"')
    with link:
        ui.icon(entry.icon)
        ui.label(entry.title)


def _theme_button(dark: DarkMode, theme: str) -> None:
    names = list(THEMES)
    button = ui.button(icon=THEMES[theme][0]).props("flat round dense")

    def show(name: str) -> None:
        icon, value = THEMES[name]
        dark.value = value
        button.props(f'icon={icon} aria-label="Theme: {name}. Change it"')

    def switch() -> None:
        nonlocal theme
        theme = names[(names.index(theme) + 1) % len(names)]
        show(theme)
        ui.run_javascript(_COOKIE_SCRIPT.format(name=THEME_COOKIE, value=theme))

    show(theme)
    button.on_click(switch)
