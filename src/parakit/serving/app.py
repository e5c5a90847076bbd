"""The web application: the routes of every form, errors in one form, and an id for every request."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parakit.common.hardware import parakit_version
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.api import (
    batches,
    chat,
    completions,
    documents,
    embeddings,
    health,
    metrics,
    models,
    tokenize,
)
from parakit.serving.api.anthropic_messages import routes as anthropic_messages
from parakit.serving.api.batches import account_by_owner
from parakit.serving.api.errors import add_error_handlers
from parakit.serving.api.responses import routes as responses
from parakit.serving.batches.executor import LineExecutor
from parakit.serving.batches.service import BatchService
from parakit.serving.config import ServeConfig
from parakit.serving.context import ServingContext
from parakit.serving.generation.call import new_id
from parakit.serving.generation.service import GenerationService
from parakit.serving.logs import log_event, log_generation, log_work
from parakit.serving.metrics import ServerMetrics
from parakit.serving.models.registry import Registry
from parakit.serving.security.protection import protect

ANSWERING = tuple(one.router for one in (chat, completions, responses, anthropic_messages, embeddings))
"""The routes that a line of a batch may name."""
ROUTERS = (
    models.router,
    *ANSWERING,
    *(one.router for one in (documents, batches, tokenize, health, metrics)),
)


def create_app(
    registry: Registry, config: ServeConfig | None = None, *, accounts: Accounts | None = None
) -> FastAPI:
    """The application that serves the models of a registry. `app.state.serving` is its `ServingContext`.

    Without `accounts` every request to a known host is allowed and nothing is recorded.
    """
    config = config or registry.config
    service = GenerationService(registry, accounts)
    service.on_end.append(partial(log_generation, with_text=config.log_prompts))
    service.on_work.append(log_work)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batch_service.resume(partial(account_by_owner, context))
        yield
        await batch_service.close()
        service.close()
        await registry.close()

    app = FastAPI(
        title="Parakit",
        version=parakit_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"auto_configure": False},  # nothing leaves the machine, whatever the environment says
    )
    app.state.serving = context = ServingContext(registry, config, service, accounts)
    ServerMetrics(service, context.metrics)
    context.parts["batches"] = batch_service = BatchService(config.data_dir, LineExecutor(context, ANSWERING))
    context.parts[documents.PART] = documents.open_indexes(config.documents, config.device)
    for router in ROUTERS:
        app.include_router(router)
    add_error_handlers(app)
    protect(app, config.host, config, accounts)
    app.add_middleware(RequestIds)
    return app


class RequestIds:
    """Gives every request an id, which the response bears as `x-request-id`, and writes it to the log with its status."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started = new_id("req"), time.perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            log_event(
                f"{scope['method']} {scope['path'][:200]} {status or 'no answer'}",
                request_id=request_id,
                status=status or None,
                seconds=round(time.perf_counter() - started, 4),
            )
