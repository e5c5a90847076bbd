"""Puts the studio into a FastAPI app, behind the routes that the app has.

NiceGUI takes seconds to import, which a server need not wait for: it is imported, in a thread, when the app has started, or
by the first request to a page. NiceGUI has one app for a process, so a process has one studio; mounting again replaces
its context.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from parakit.serving.security.authentication import is_api_path
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.security_policy import AsgiApp, Receive, Scope, SecurityPolicy, Send

if TYPE_CHECKING:
    from fastapi import FastAPI

WARM_UP_DELAY = 1.0  # seconds


class _LazyStudio:
    """The ASGI app of the studio, which becomes NiceGUI's with the first request."""

    def __init__(self, context: StudioContext) -> None:
        self.context = context
        self._app: AsgiApp | None = None
        self._lock = asyncio.Lock()
        self._lifespan = contextlib.AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_api_path(scope["path"]):
            raise HTTPException(404)  # as the API reports it; pages would answer with a page
        await (await self.load())(scope, receive, send)

    async def load(self) -> AsgiApp:
        """NiceGUI's app with the pages, imported and started once."""
        async with self._lock:
            if self._app is None:
                app = await asyncio.to_thread(_nicegui_app, self.context)
                with (
                    warnings.catch_warnings()
                ):  # it looks for uvicorn among all objects, some of them deprecated
                    warnings.simplefilter("ignore", FutureWarning)
                    await self._lifespan.enter_async_context(app.router.lifespan_context(app))
                self._app = SecurityPolicy(app)
        return self._app

    async def close(self) -> None:
        """Stop NiceGUI's background tasks."""
        await self._lifespan.aclose()


def mount_studio(app: FastAPI, context: StudioContext, *, warm_up: bool = True) -> None:
    """Serve the studio's pages at `/` of `app`; routes that `app` has by now go first. `warm_up`: import NiceGUI soon after
    the app has started, so that the first page is fast.
    """
    studio = _LazyStudio(context)
    app.mount("/", studio)
    outer = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(started: Any) -> AsyncIterator[Any]:
        async with outer(started) as state:
            task = asyncio.create_task(_warm_up(studio)) if warm_up else None
            yield state
            if task is not None:
                task.cancel()
            await studio.close()

    app.router.lifespan_context = lifespan


async def _warm_up(studio: _LazyStudio) -> None:
    """Import NiceGUI and the pages once the server has nothing else to do: the imports take seconds of a processor."""
    service = studio.context.service
    await asyncio.sleep(WARM_UP_DELAY)
    while service is not None and service.running:
        await asyncio.sleep(WARM_UP_DELAY)
    await studio.load()
    await asyncio.to_thread(_import_pages)


def _import_pages() -> None:
    """Import what the pages compute with, so that none of them waits for it when it is opened for the first time."""
    from parakit.serving.studio.page_list import PAGES

    for page in PAGES:
        _ = page.builder


def _nicegui_app(context: StudioContext) -> FastAPI:
    """A FastAPI app with NiceGUI and the pages in it."""
    from parakit.serving.studio.frame import nicegui_app

    return nicegui_app(context)
