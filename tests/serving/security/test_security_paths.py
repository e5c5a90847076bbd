"""Paths that try to leave their folder, sent as they are: no file outside is opened, none is shown."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")

from tests.serving.conftest import RunningServer

DOTS = ("..", "%2e%2e", ".%2e", "%252e%252e", "..;", "....", "%c0%ae%c0%ae", "..%00", "%u002e%u002e")
SEPARATORS = ("/", "%2f", "%252f", "\\", "%5c", "//", "/./", "%c0%af", "%u2215")
PREFIXES = (
    "/",
    "/v1/models/",
    "/v1/responses/",
    "/studio-static/",
    "/_nicegui/3.18.0/static/",
    "/v1/",
    "/openapi.json/",
)
ENDINGS = ("", "%00", "%00.png", "?x=1", "#", "/", "/.", ".json")
SECRET = "a secret that no answer has"


def payloads(target: Path, n: int) -> list[str]:
    """Paths of requests, a sample of all combinations: the same one each time."""
    every = itertools.product(PREFIXES, DOTS, SEPARATORS, range(1, 12), ENDINGS, ("up", "absolute"))
    chosen = random.Random(0).sample(list(every), n)
    found = []
    for prefix, dots, separator, depth, ending, kind in chosen:
        goal = str(target).lstrip("/").replace("/", separator)
        found.append(
            prefix
            + (dots + separator) * depth * (kind == "up")
            + (separator if kind != "up" else "")
            + goal
            + ending
        )
    return found


_opened: list[str] = []
_is_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_watching and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        _opened.append(os.path.realpath(arguments[0]))


def send_all(server: RunningServer, target: Path, n: int) -> None:
    global _is_watching
    sys.addaudithook(_watch)
    parts = urlsplit(server.url)
    _opened.clear()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    statuses: dict[int, int] = {}
    _is_watching = True
    try:
        for number, path in enumerate(payloads(target, n)):
            for method, url, body in (
                ("GET", path, None),
                ("POST", "/v1/completions", {"model": path, "prompt": "a"}),
            ):
                if method == "POST" and number % 5:
                    continue
                content = None if body is None else json.dumps(body)
                connection.request(method, url, content, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read().decode("utf-8", "replace")
                assert SECRET not in text, (method, path)
                assert answer.status in (307, 400, 403, 404, 405), (method, path, answer.status)
                if answer.status == 307:  # the same without the slash at its end, at this server
                    assert (answer.headers["location"] or "").startswith(f"{server.url}/")
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
    finally:
        _is_watching = False
        connection.close()
    outside = {
        path for path in _opened if path == str(target) or path.startswith(("/etc/passwd", "/proc/self"))
    }
    assert outside == set()
    assert sum(statuses.values()) >= n


@pytest.fixture
def target(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    return file


def test_paths_that_leave_their_folder_find_nothing(tiny_server, target):
    send_all(tiny_server, target, 300)


@pytest.mark.long
def test_thousands_of_paths_find_nothing_with_the_studio(make_server, published_decoder, target, tmp_path):
    pytest.importorskip("nicegui")
    from parakit.serving.studio.context import StudioContext
    from parakit.serving.studio.mounting import mount_studio

    (tmp_path / "root").mkdir()
    server = make_server([f"tiny={published_decoder}"])
    app = server.server.config.app
    mount_studio(app, StudioContext(tmp_path / "root", server.context.service), warm_up=False)
    send_all(server, target, 5000)
