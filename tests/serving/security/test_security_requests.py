"""Who may send what: a table of every route and verb, hosts, origins, sessions, and bounds of bodies."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import httpx
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from parakit.common import UserError
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.database import open_database
from parakit.serving.accounts.keys import Quota, add_key, revoke_key
from parakit.serving.app import ROUTERS, create_app
from parakit.serving.config import ServeConfig
from parakit.serving.models.registry import Registry
from parakit.serving.security.config import SecurityConfig
from parakit.serving.security.exposure import check_tls, require_keys_where_exposed
from parakit.serving.security.hosts import HostCheck, is_loopback
from parakit.serving.server import open_accounts

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
# Every route: who may send requests to it. A route that is missing here fails the test.
ROUTES = {
    "/openapi.json": "key",
    "/v1/models": "key",
    "/v1/models/{model}": "key",
    "/v1/chat/completions": "key",
    "/v1/completions": "key",
    "/v1/embeddings": "key",
    "/v1/answers": "key",
    "/v1/documents": "key",
    "/v1/files": "key",
    "/v1/files/{file_id}": "key",
    "/v1/files/{file_id}/content": "key",
    "/v1/batches": "key",
    "/v1/batches/{batch_id}": "key",
    "/v1/batches/{batch_id}/cancel": "key",
    "/v1/responses": "key",
    "/v1/responses/{response_id}": "key",
    "/v1/responses/{response_id}/input_items": "key",
    "/v1/messages": "key",
    "/v1/messages/count_tokens": "key",
    "/tokenize": "key",
    "/detokenize": "key",
    "/metrics": "key",
    "/health": "anyone",
    "/": "studio",
    "/login": "anyone",
    "/anything/else": "studio",
}


class Keys:
    """The keys of the matrix."""

    def __init__(self, path: Path) -> None:
        connection = open_database(path)
        self.plain = add_key(connection, "plain", Quota())
        self.studio = add_key(connection, "studio", Quota(), studio=True)
        self.revoked = add_key(connection, "revoked", Quota(), studio=True)
        revoke_key(connection, "revoked")
        connection.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accounts") / "accounts.sqlite"


@pytest.fixture(scope="module")
def keys(path: Path) -> Keys:
    return Keys(path)


@pytest.fixture(scope="module")
def app(path: Path, keys: Keys) -> Iterator[FastAPI]:
    """The whole application without models, for requests that need a key; the studio is a page."""
    accounts = Accounts(path, require_key=True)
    config = ServeConfig(max_body_bytes=2000, allowed_origins=("https://app.example.com",))
    app = create_app(Registry([], config), config, accounts=accounts)
    app.mount("/", PlainTextResponse("the studio"))
    yield app
    accounts.close()


def send(app: FastAPI, method: str, path: str, base: str = "http://127.0.0.1:8000", **rest) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **rest)

    return asyncio.run(run())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_table_has_every_route(app):
    found = {route.path for router in ROUTERS for route in router.routes} | set(app.openapi()["paths"])
    assert found - set(ROUTES) == set()


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_each_verb_of_each_route_needs_a_key(app, keys, route):
    url = route.replace("{", "").replace("}", "")
    who = ROUTES[route]
    for verb in VERBS:
        statuses = {
            "none": send(app, verb, url).status_code,
            "wrong": send(app, verb, url, headers=bearer("parakit-" + "A" * 43)).status_code,
            "revoked": send(app, verb, url, headers={"x-api-key": keys.revoked}).status_code,
            "plain": send(app, verb, url, headers=bearer(keys.plain)).status_code,
            "studio": send(app, verb, url, headers={"x-api-key": keys.studio}).status_code,
        }
        refused = {name for name, status in statuses.items() if status in (401, 403)}
        expected = {"key": {"none", "wrong", "revoked"}, "studio": {"none", "wrong", "revoked", "plain"}}
        if route == "/login" and verb == "POST":  # whose form has no key
            assert set(statuses.values()) == {401}
            continue
        assert refused == expected.get(who, set()), (verb, statuses)
        assert all(status < 500 for status in statuses.values()), (verb, statuses)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "bearer nothing",
        "Bearer parakit-\xff",
        "Digest x",
        "a" * 9000,
    ],
)
def test_headers_that_are_no_key_are_refused(app, header):
    response = send(app, "GET", "/v1/models", headers={"Authorization": header.encode("latin-1")})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8000", True),
        ("127.0.0.2", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("evil.example#localhost", False),
        ("localhost/../x", False),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("", False),
        ("localhost:99999", False),
        ("localhost:x", False),
        ("\xff", False),
    ],
)
def test_a_foreign_host_is_refused(app, keys, host, known):
    response = send(app, "GET", "/v1/models", headers=bearer(keys.plain) | {"Host": host.encode("latin-1")})
    assert response.status_code == (200 if known else 403)


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        ("http://127.0.0.1:8000", True),
        ("https://app.example.com", True),
        ("http://127.0.0.1:8001", False),
        ("http://localhost:8000", False),  # another origin than the address in Host
        ("http://evil.example", False),
        ("https://app.example.com.evil.example", False),
        ("null", False),
        ("file://", False),
        ("", False),
    ],
)
def test_a_foreign_origin_is_refused(app, keys, origin, known):
    response = send(app, "POST", "/tokenize", headers=bearer(keys.plain) | {"Origin": origin}, json={})
    assert (response.status_code != 403) == known
    cors = response.headers.get("access-control-allow-origin")
    assert cors == (origin if origin.startswith("https://app.example.com") and known else None)


def test_a_proxy_s_name_is_known_when_it_is_configured():
    check = HostCheck(PlainTextResponse("ok"), "127.0.0.1", ["llm.example.com"])

    def fault(host: bytes, *origins: bytes):
        headers = [(b"host", host), *((b"origin", origin) for origin in origins)]
        return check.fault({"headers": headers})

    assert fault(b"llm.example.com") is None
    assert fault(b"LLM.example.com", b"https://llm.example.com") is None  # https ends at the proxy
    assert fault(b"llm.example.com", b"https://evil.example") is not None
    assert fault(b"llm.example.com", b"https://llm.example.com", b"https://evil.example") is not None
    assert check.fault({"headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}) is not None
    assert check.fault({"headers": []}) is not None


def test_under_any_address_of_the_machine_where_it_listens_on_all():
    check = HostCheck(PlainTextResponse("ok"), "0.0.0.0")
    assert check.fault({"headers": [(b"host", b"192.0.2.7:8000")]}) is None
    assert check.fault({"headers": [(b"host", b"evil.example")]}) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(host):
    assert is_loopback(host)


def test_another_address_without_a_key_refuses_to_start(tmp_path):
    file = str(tmp_path / "accounts.sqlite")
    for settings in (
        {"host": "0.0.0.0"},
        {"host": "192.0.2.7"},
        {"host": "::"},
        {"allowed_hosts": ("llm.example.com",)},
        {"require_key": True},
    ):
        with pytest.raises(UserError, match="no API key"):
            open_accounts(ServeConfig(accounts=file, **settings))
    open_accounts(ServeConfig(accounts=file)).close()
    connection = open_database(file)
    add_key(connection, "a", Quota())
    connection.close()
    accounts = open_accounts(ServeConfig(accounts=file, host="0.0.0.0"))
    assert accounts.require_key
    accounts.close()
    accounts = Accounts(file)
    require_keys_where_exposed("127.0.0.1", SecurityConfig(), accounts)
    assert not accounts.require_key
    accounts.close()


def test_a_browser_logs_in_with_a_key_and_out_when_it_is_revoked(app, path):
    connection = open_database(path)
    key = add_key(connection, f"browser-{next(COUNT)}", Quota(), studio=True)
    page = send(app, "GET", "/", headers={"Accept": "text/html"})
    assert page.status_code == 401
    assert "<form" in page.text
    assert (
        send(app, "POST", "/login", data={"key": key}, headers={"Origin": "http://evil.example"}).status_code
        == 403
    )
    assert send(app, "POST", "/login", data={"key": "parakit-no"}).status_code == 401
    assert send(app, "POST", "/login", data={"key": "x" * 1900}).status_code == 401
    entered = send(app, "POST", "/login", data={"key": key})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert key not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert send(app, "GET", "/", headers=session).text == "the studio"
    revoke_key(connection, f"browser-{next(COUNT) - 1}")
    connection.close()
    assert send(app, "GET", "/", headers=session).status_code == 401


COUNT = itertools.count()


def test_a_plain_key_does_not_open_the_studio(app, keys):
    assert send(app, "POST", "/login", data={"key": keys.plain}).status_code == 403
    assert send(app, "GET", "/", headers=bearer(keys.plain)).status_code == 403


def test_a_body_over_the_limit_is_refused_without_being_read(app, keys):
    def endless():
        while True:
            yield b" " * 1000

    for content, headers in (
        (b" " * 2001, {}),
        (endless(), {}),
        (b"{}", {"Content-Length": str(2**31)}),
        (b"{}", {"Content-Length": "9" * 400}),
    ):
        response = send(
            app, "POST", "/tokenize", headers=bearer(keys.plain) | headers, content=_async(content)
        )
        assert response.status_code == 413, headers
        assert response.json()["error"]["message"].startswith("the body is larger than 2,000 bytes")
        assert response.headers["connection"] == "close"


def _async(content):
    if isinstance(content, bytes):
        return content

    async def parts():
        for part in content:
            yield part

    return parts()


def test_answers_forbid_embedding_and_guessing_of_types(app):
    headers = send(app, "GET", "/health").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "SAMEORIGIN"


def test_certificates_that_do_not_fit_are_refused(tmp_path):
    cert, other = tmp_path / "cert.pem", tmp_path / "other.pem"
    cert.write_text("no certificate")
    for config, reason in (
        ({"tls_cert": str(cert)}, "give both"),
        ({"tls_cert": str(cert), "tls_key": str(other)}, "no such file"),
        ({"tls_cert": str(cert), "tls_key": str(cert)}, "not usable for https"),
    ):
        with pytest.raises(UserError, match=reason):
            check_tls(SecurityConfig(**config))
    check_tls(SecurityConfig())
