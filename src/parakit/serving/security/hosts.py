"""Refuses requests that name a foreign host or come from a foreign web page.

A page of the internet can make a browser send requests to 127.0.0.1: under a name that it lets resolve to that address
(DNS rebinding), which the Host header shows, or directly, which the Origin header shows. Neither reaches a route.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from parakit.serving.accounts.errors import Forbidden
from parakit.serving.security.refusals import refuse

_DEFAULT_PORTS = {"http": 80, "https": 443}
WILDCARDS = ("0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine alone."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class HostCheck:
    """ASGI middleware. `bound`: the address that the server listens on."""

    def __init__(
        self, app: ASGIApp, bound: str, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        self.app = app
        self.bound = bound
        self.names = {name.lower() for name in allowed_hosts} | {"localhost"}
        if not is_loopback(bound):
            self.names |= {bound.lower(), socket.gethostname().lower()}
        self.origins = {origin.lower().rstrip("/") for origin in allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            fault = self.fault(scope)
            if fault is not None:
                await refuse(fault, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def fault(self, scope: Scope) -> Forbidden | None:
        """Why a request is refused."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        host = _split(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_known(host[0]):
            return Forbidden(
                "the Host header does not name this server",
                "use its address, or start it with --allowed-hosts NAME",
            )
        for origin in origins:
            if not self._is_own(origin.decode("latin-1").lower(), host):
                return Forbidden(
                    "requests from web pages of another origin are refused",
                    "start the server with --allowed-origins ORIGIN",
                )
        return None

    def _is_known(self, name: str) -> bool:
        """A name that is configured, or an address that can be this machine's: no page can make a browser take an address
        for another.
        """
        if name in self.names:
            return True
        address = _address(name)
        if address is None:
            return False
        return address.is_loopback or self.bound in WILDCARDS or address == _address(self.bound)

    def _is_own(self, origin: str, host: tuple[str, int | None]) -> bool:
        if origin.rstrip("/") in self.origins:
            return True
        scheme, _, rest = origin.partition("://")
        named = _split(rest.encode("latin-1"))
        if named is None or scheme not in _DEFAULT_PORTS:
            return False
        default = _DEFAULT_PORTS[scheme]
        return (named[0], named[1] or default) == (host[0], host[1] or default)


def _split(host: bytes) -> tuple[str, int | None] | None:
    """Name and port of `name:port`; None for what is no host."""
    text = host.decode("latin-1").lower()
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    plain = f"[{name}]" if name and ":" in name else name
    if not name or text not in (plain, f"{plain}:{port}", f"{plain}:"):
        return None
    return name, port


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
