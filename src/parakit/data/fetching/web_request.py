"""One page of the web, fetched with bounds: http and https alone, also after redirects; so many bytes; so many seconds in
all, however slowly the server sends; and no address of a private network, checked on the very address that is connected
to, so that no name server can change it in between.

Proxies of the environment are used only where private addresses are allowed: through one no address can be checked.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from parakit.common.hardware import parakit_version

MAX_REDIRECTS = 5
PRIVATE = "an address of a private network"
_BLOCK = 2**16
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchError(Exception):
    """A page that cannot be fetched, and why."""


@dataclass(frozen=True)
class FetchLimits:
    """What fetching one page may cost, and whether it may be in a private network."""

    seconds: float
    max_bytes: int
    allow_private: bool = False


@dataclass(frozen=True)
class Page:
    """A server's answer. `address` is where redirects led."""

    address: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes


def fetch(address: str, limits: FetchLimits) -> Page:
    """The answer to a GET request, whatever its status; `FetchError` where there is none, or one beyond the limits."""
    request = urllib.request.Request(
        _plain(address),
        headers={
            "User-Agent": f"parakit/{parakit_version()}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        },
    )
    watch = _Deadline(limits)
    try:
        with watch, _opener(watch).open(request, timeout=limits.seconds) as answer:
            return _read(answer, limits, watch)
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            raise FetchError(f"a redirect that is not followed: {error.reason}") from None
        return Page(error.url, error.code, str(error.reason), [], b"")
    except FetchError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if watch.is_over:
            raise FetchError(f"no whole answer within {limits.seconds:g} seconds") from None
        cause = getattr(error, "reason", None) or error
        if isinstance(cause, FetchError):
            raise cause from None
        raise FetchError(str(cause)[:200] or type(cause).__name__) from None


class _Deadline:
    """Makes the connections of one request, checks where they lead, and cuts them when the time is over."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits, self._sockets = limits, list[socket.socket]()
        self.is_over, self._end = False, time.monotonic() + limits.seconds
        self._timer = threading.Timer(limits.seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """As `socket.create_connection`, to a checked address."""
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        if not self._limits.allow_private:
            for one in found:
                check_public(str(one[4][0]))
        failure: OSError | None = None
        for one in found:
            left = self._end - time.monotonic()
            if left <= 0:
                break
            try:
                self._sockets.append(socket.create_connection(one[4][:2], left))  # type: ignore[arg-type]
                return self._sockets[-1]
            except OSError as error:
                failure = error
        raise failure or TimeoutError("timed out")

    def _cut(self) -> None:
        self.is_over = True
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already


def check_public(number: str) -> None:
    """`FetchError` for an address (a number) of this machine or of a private network."""
    found: Any = ipaddress.ip_address(number.partition("%")[0])
    if found.version == 6 and (found.ipv4_mapped or found in _NAT64):
        found = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
    if not found.is_global or found.is_multicast:
        raise FetchError(f"{number} is {PRIVATE}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def redirect_request(self, request: Any, *args: Any) -> urllib.request.Request | None:
        _plain(args[-1])
        return super().redirect_request(request, *args)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Deadline) -> None:
        super().__init__()
        self._make = partial(_connection, http.client.HTTPConnection, watch)

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._make, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Deadline) -> None:
        super().__init__()
        self._make = partial(_connection, http.client.HTTPSConnection, watch)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._make, request)


def _connection(kind: type[http.client.HTTPConnection], watch: _Deadline, host: str, **values: Any) -> Any:
    made = kind(host, **values)
    made._create_connection = watch.connect  # type: ignore[attr-defined]  # where http.client itself lets it be replaced
    return made


def _opener(watch: _Deadline) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    handlers: list[Any] = [_Http(watch), _Https(watch), _Redirects(), urllib.request.UnknownHandler()]
    handlers += [urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler()]
    if watch._limits.allow_private:
        handlers.append(urllib.request.ProxyHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _read(answer: Any, limits: FetchLimits, watch: _Deadline) -> Page:
    blocks, n_bytes = [], 0
    while block := answer.read(_BLOCK):
        n_bytes += len(block)
        if n_bytes > limits.max_bytes:
            raise FetchError(f"over {limits.max_bytes:,} bytes")
        blocks.append(block)
    declared = answer.headers.get("Content-Length", "")
    if watch.is_over or (declared.isdecimal() and int(declared) != n_bytes):
        raise FetchError(f"it ends after {n_bytes:,} bytes" + (f" of {declared}" if declared else ""))
    return Page(answer.url, answer.status, answer.reason, answer.headers.items(), b"".join(blocks))


def _plain(address: str) -> str:
    """The address in ASCII; `FetchError` for one that is not http or https, or has a password in it."""
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"no valid address: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise FetchError(f"only http and https are fetched, not {parts.scheme[:20] or 'a path'}")
    if not host or "@" in parts.netloc:
        raise FetchError("no valid address: " + ("it has a password" if host else "it names no server"))
    try:
        place = parts.netloc.encode("ascii" if parts.netloc.isascii() else "idna").decode()
    except UnicodeError as error:
        raise FetchError(f"no valid address: {error}") from None
    return urlunsplit(
        (parts.scheme, place, quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE), "")
    )
