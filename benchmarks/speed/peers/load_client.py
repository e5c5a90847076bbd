"""The clients of a load test, in a process of their own: each sends one streamed chat request after the other.

Plain sockets and the standard library, so that the clients take little of the cores that they share with the server. Prints
one JSON object: requests and tokens a second, times to the first token and between tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

WORDS = [
    *("river", "stone", "garden", "winter", "letter", "engine", "silver", "morning", "market", "forest"),
    *("window", "harbour", "candle", "music", "planet", "bridge"),
]

SETTLE_SECONDS, SETTLE_LIMIT = 1.0, 300.0


def question(number: int) -> str:
    """A question of some forty words; two of different numbers differ from the first word on."""
    words = [WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(24)]
    return f"Number {number}: tell a short story with these words: {', '.join(words)}."


def message(spec: dict[str, Any], number: int) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(
        {
            "model": spec["model"],
            "messages": [{"role": "user", "content": question(number)}],
            "max_tokens": spec["n_new"],
            "temperature": 0,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{spec['port']}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


async def request(spec: dict[str, Any], number: int) -> tuple[list[float], float]:
    """Times of the pieces of one answer, after the time at which it was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", spec["port"], limit=2**20)
    sent = time.perf_counter()
    writer.write(message(spec, number))
    try:
        status = (await reader.readline()).split()[1]
        if status != b"200":
            raise RuntimeError(f"status {status.decode()}: {(await reader.read())[-500:]!r}")
        return [moment async for moment in _pieces(reader)], sent
    finally:
        writer.close()


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[float]:
    """The times at which pieces of text come."""
    while line := await reader.readline():
        if not line.startswith(b"data:") or line.startswith(b"data: [DONE]"):
            continue
        data = json.loads(line[5:])
        if "error" in data:
            raise RuntimeError(str(data["error"]))
        for choice in data.get("choices", ()):
            if choice.get("delta", {}).get("content"):
                yield time.perf_counter()


@contextlib.asynccontextmanager
async def hindrances(spec: dict[str, Any]) -> AsyncIterator[None]:
    """Within the block `n_slow` clients read their answers at one byte a second, and `n_half_open` connections send the
    beginning of a request and nothing more.
    """
    writers: list[asyncio.StreamWriter] = []

    async def slow(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", spec["port"], limit=16)
        writers.append(writer)
        writer.write(message(spec, number))
        while await reader.read(1):
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(slow(500_000 + i)) for i in range(spec.get("n_slow", 0))]
    for _ in range(spec.get("n_half_open", 0)):
        _, writer = await asyncio.open_connection("127.0.0.1", spec["port"])
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n")
        writers.append(writer)
    if tasks:
        await _until_idle(spec["port"])  # their answers are computed by then, and wait to be read
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()


async def _until_idle(port: int) -> None:
    """Return when Parakit's server computes nothing: `parakit_running` and `parakit_waiting` of its metrics are 0."""
    end = time.monotonic() + SETTLE_LIMIT
    while time.monotonic() < end:
        await asyncio.sleep(SETTLE_SECONDS)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        lines = (await reader.read()).decode().splitlines()
        writer.close()
        counts = [
            line.split()[-1] for line in lines if line.startswith(("parakit_running{", "parakit_waiting{"))
        ]
        if counts and not any(map(float, counts)):
            return
    raise RuntimeError(f"the answers of slow readers are still computed after {SETTLE_LIMIT:.0f} s")


async def load(spec: dict[str, Any]) -> dict[str, float]:
    """The figures of `n_clients` clients that send `n_requests` requests together."""
    numbers = iter(range(spec["first"], spec["first"] + spec["n_requests"]))
    firsts: list[float] = []
    gaps: list[float] = []
    n_tokens = 0

    async def client() -> None:
        nonlocal n_tokens
        for number in numbers:
            times, sent = await request(spec, number)
            if not times:
                raise RuntimeError(f"request {number} had no text")
            firsts.append(times[0] - sent)
            gaps.extend(b - a for a, b in itertools.pairwise(times))
            n_tokens += len(times)

    async with hindrances(spec):
        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(spec["n_clients"])))
        seconds = time.perf_counter() - started
    found = {"requests_per_second": spec["n_requests"] / seconds, "tokens_per_second": n_tokens / seconds}
    for name, values in (("first_token", firsts), ("between_tokens", gaps)):
        for percent in (50, 95, 99):
            found[f"{name}_p{percent}"] = percentile(values, percent)
    return found


def percentile(values: list[float], percent: int) -> float:
    """The value below which so many of a hundred are, the nearest one; in seconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] if ordered else 0.0


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(json.loads(sys.argv[1])))))
