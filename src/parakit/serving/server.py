"""Runs the application: the socket, the signals, and an end that lets running requests finish.

The socket is bound before a model is loaded, so that a port in use is known at once. After SIGTERM or Ctrl-C new requests get
503 until those that run have ended, or `shutdown_seconds` are over; a second signal ends the server at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from parakit.common.errors import UserError
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.prices import load_price_table
from parakit.serving.app import create_app
from parakit.serving.config import ServeConfig
from parakit.serving.context import ServingContext
from parakit.serving.errors import ModelUnavailable
from parakit.serving.logs import log_event, set_up_logs
from parakit.serving.models.locations import ModelLocation
from parakit.serving.models.registry import Registry
from parakit.serving.security.connections import ConnectionGuard
from parakit.serving.security.exposure import check_tls, require_keys_where_exposed
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.mounting import mount_studio

BACKLOG = 2048
IDLE_SECONDS = 65  # a connection without a request is closed after so long


def bind_socket(config: ServeConfig) -> socket.socket:
    """A socket that listens. `UserError` for a port in use, and for an address that is not this machine's."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _bind_error(config, error) from None
    except OverflowError:
        listener.close()
        raise UserError(f"port {config.port} is over 65535", "choose another --port") from None
    listener.setblocking(False)
    return listener


def _bind_error(config: ServeConfig, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"port {config.port} of {config.host} is in use",
            "choose another --port; 0 takes any that is free",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(f"port {config.port} may not be used by this user", "choose one above 1023")
    return UserError(
        f"{config.host} cannot be listened on: {error.strerror or error}", "name an address of this machine"
    )


class Server(uvicorn.Server):
    """uvicorn, with signals that drain the service first."""

    def __init__(
        self, app: FastAPI, config: ServeConfig, on_ready: Callable[[], object] | None = None
    ) -> None:
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            proxy_headers=False,  # no route trusts what a client writes there
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=5,
            backlog=BACKLOG,
        )
        super().__init__(settings)
        self.context: ServingContext = app.state.serving
        self._settings, self._on_ready = config, on_ready
        self._draining: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        guard = ConnectionGuard(self.server_state.connections, self._settings)
        self._guard = asyncio.create_task(guard.run())
        if self.started and self._on_ready is not None:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._draining is None:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._begin_drain)
            return
        self.should_exit = self.force_exit = True

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        log_event("shutting down", running=len(self.context.service.running))
        cancelled = await self.context.service.drain(self._settings.shutdown_seconds)
        log_event("shut down", cancelled=cancelled)
        self.should_exit = True


def serve(
    locations: Sequence[ModelLocation],
    config: ServeConfig,
    *,
    on_ready: Callable[[str], object] | None = None,
    studio_root: Path | None = None,
) -> None:
    """Serve models until a signal ends it. `on_ready` is called with the URL once requests are taken. `studio_root`: the
    folder that the studio shows; None: the working directory.

    Raises `UserError` for a port in use, for a model that cannot be loaded, for a certificate that is not usable, and where
    other machines can reach the server and there is no key.
    """
    check_tls(config)
    with contextlib.closing(open_accounts(config)) as accounts:
        _serve(locations, config, accounts, on_ready, studio_root)


def open_accounts(config: ServeConfig) -> Accounts:
    """The keys and the ledger of a server. `UserError` where other machines can reach it and there is no key."""
    prices = load_price_table(config.prices)
    accounts = Accounts(config.accounts, prices, config.on_ledger_failure, config.require_key)
    try:
        require_keys_where_exposed(config.host, config, accounts)
    except BaseException:
        accounts.close()
        raise
    return accounts


def _serve(
    locations: Sequence[ModelLocation],
    config: ServeConfig,
    accounts: Accounts,
    on_ready: Callable[[str], object] | None,
    studio_root: Path | None,
) -> None:
    registry = Registry(locations, config)
    with contextlib.closing(bind_socket(config)) as listener:
        set_up_logs()
        app = create_app(registry, config, accounts=accounts)
        host, port = listener.getsockname()[:2]
        if config.studio:
            context = StudioContext(studio_root or Path.cwd(), app.state.serving.service)
            mount_studio(app, context)
        scheme = "http" if config.tls_cert is None else "https"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

        async def run() -> None:
            names = [one.name for one in locations]
            for name in {"first": names[:1], "all": names, "none": []}[config.preload]:
                try:
                    await registry.load(name)
                except ModelUnavailable as error:
                    raise error.reason from None
            server = Server(app, config, None if on_ready is None else lambda: on_ready(url))
            await server.serve(sockets=[listener])

        with asyncio.Runner(loop_factory=uvicorn.Config(app).get_loop_factory()) as runner:
            runner.run(run())
