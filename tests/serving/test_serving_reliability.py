"""Many clients at once: those that leave free their places and pages, and each of the others gets what it would get alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import parakit
from tests.sample_text import sentences
from tests.serving.conftest import RunningServer
from tests.waiting import wait_until


def body_of(number: int, **settings: Any) -> dict[str, Any]:
    message = {"role": "user", "content": sentences(number, 1)[:40]}
    return {"model": "tiny", "messages": [message], "max_tokens": 12, "min_new_tokens": 12} | settings


async def text_of(client: httpx.AsyncClient, body: dict[str, Any], leave_after: float | None = None) -> str:
    """The answer, streamed where the body says so; a client that leaves does so after that many seconds."""
    try:
        async with asyncio.timeout(leave_after):
            if not body.get("stream"):
                answer = await client.post("/v1/chat/completions", json=body)
                answer.raise_for_status()
                return str(answer.json()["choices"][0]["message"]["content"])
            pieces = []
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        for choice in json.loads(line[6:])["choices"]:
                            pieces.append(choice["delta"].get("content") or "")
            return "".join(pieces)
    except TimeoutError:
        return "left"


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def drop_clients(server: RunningServer, n_clients: int, n_dropped: int, n_rounds: int) -> list[int]:
    """Rounds of clients of whom some leave at a random moment; the memory after each round."""
    service, engine = server.context.service, server.context.registry.loaded[0].engine
    assert engine is not None
    memory: list[int] = []

    async def round_of(chosen: random.Random, expected: dict[int, str]) -> None:
        limits = httpx.Limits(max_connections=n_clients)
        dropped = set(chosen.sample(range(n_clients), n_dropped))
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            tasks = []
            for i in range(n_clients):
                body = body_of(i % 4, temperature=0, stream=i % 2 == 0)
                leave_after = chosen.uniform(0.01, 1.0) if i in dropped else None
                tasks.append(
                    text_of(client, body | ({"max_tokens": 40} if i in dropped else {}), leave_after)
                )
            found = await asyncio.gather(*tasks)
        for i, text in enumerate(found):
            if i not in dropped:
                assert text == expected.setdefault(i % 4, text)

    expected: dict[int, str] = {}
    chosen = random.Random(0)
    for _ in range(n_rounds):
        asyncio.run(round_of(chosen, expected))
        wait_until(
            lambda: not (service.running or engine.statistics.n_running or engine.statistics.n_waiting),
            what="places are held by clients that left",
        )
        assert engine.statistics.n_pages_used == 0
        memory.append(resident_bytes())
    return memory


def test_clients_that_leave_hold_nothing(
    make_server: Callable[..., RunningServer], published_decoder: Path
) -> None:
    server = make_server([f"tiny={published_decoder}"])
    asyncio.run_coroutine_threadsafe(server.context.registry.load("tiny"), server.loop).result(30)
    drop_clients(server, n_clients=8, n_dropped=4, n_rounds=1)


@pytest.mark.long
def test_two_hundred_clients_of_whom_half_leave_twenty_times(
    make_server: Callable[..., RunningServer], published_decoder: Path
) -> None:
    server = make_server([f"tiny={published_decoder}"], max_running=64)
    asyncio.run_coroutine_threadsafe(server.context.registry.load("tiny"), server.loop).result(30)
    memory = drop_clients(server, n_clients=200, n_dropped=100, n_rounds=20)
    assert memory[-1] < 1.05 * memory[2]


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}},
    "required": ["a"],
    "additionalProperties": False,
}
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 0.8, "seed": 2, "top_k": 20, "frequency_penalty": 0.5},
    {
        "temperature": 1.0,
        "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    },
    {"temperature": 1.2, "seed": 4, "top_p": 0.8, "stop": ["e"]},
    {"temperature": 1.0, "seed": 5, "regex": "[a-z ]{5,9}"},
]


def equal_together_and_one_by_one(server: RunningServer, n: int) -> list[str]:
    """The texts of n requests with settings of their own, sent together; they are those of each alone."""
    pytest.importorskip("llguidance")
    bodies = []
    for i in range(n):
        settings = SETTINGS[i % len(SETTINGS)]
        is_bounded = "stop" in settings or "regex" in settings or "response_format" in settings
        plain = {"min_new_tokens": 0} if is_bounded else {}
        bodies.append(body_of(i, stream=i % 2 == 0, **plain) | settings)

    async def run() -> tuple[list[str], list[str]]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            together = await asyncio.gather(*(text_of(client, body) for body in bodies))
            return list(together), [await text_of(client, body | {"stream": False}) for body in bodies]

    together, alone = asyncio.run(run())
    assert together == alone
    return alone


def test_requests_with_different_samplers_and_schemas_do_not_change_each_other(
    tiny_server: RunningServer,
) -> None:
    texts = equal_together_and_one_by_one(tiny_server, 6)
    assert set(json.loads(texts[3])) == {"a"}


@pytest.mark.long
def test_five_hundred_prompts_have_equal_texts_everywhere(
    tiny_server: RunningServer, published_decoder: Path
) -> None:
    """The server's, streamed and whole, together and one by one, and those of the library and `parakit generate`. The
    short suite has eight prompts in tests/serving/api/test_serving_chat.py.
    """
    equal_together_and_one_by_one(tiny_server, 300)
    model = parakit.load(published_decoder)
    settings: dict[str, Any] = {"temperature": 1.0, "seed": 9}

    async def run() -> list[str]:
        async with httpx.AsyncClient(base_url=tiny_server.url, timeout=300) as client:
            bodies = [body_of(i, stream=i % 2 == 0, **settings) for i in range(500)]
            return list(await asyncio.gather(*(text_of(client, body) for body in bodies)))

    for i, found in enumerate(asyncio.run(run())):
        messages = body_of(i)["messages"]
        [expected] = model.completions(messages, max_new_tokens=12, min_new_tokens=12, **settings)
        assert found == expected.text, i
