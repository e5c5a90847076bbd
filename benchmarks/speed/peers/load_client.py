"""The clients of a load test, in a process of their own: each sends one streamed chat request after the other.

Plain sockets and the standard library, so that the clients take little of the cores that they share with the server. Prints
one JSON object: requests and tokens a second, times to the first token and between tokens.
"""

from __future__ import annotations

import asyncio
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


def question(number: int) -> str:
    """A question of some forty words; two of different numbers differ from the first word on."""
    words = [WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(24)]
    return f"Number {number}: tell a short story with these words: {', '.join(words)}."


async def request(spec: dict[str, Any], number: int) -> tuple[list[float], float]:
    """Times of the pieces of one answer, after the time at which it was sent."""
    body = json.dumps(
        {
            "model": spec["model"],
            "messages": [{"role": "user", "content": question(number)}],
            "max_tokens": spec["n_new"],
            "temperature": 0,
            "stream": True,
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", spec["port"], limit=2**20)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{spec['port']}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    sent = time.perf_counter()
    writer.write(head.encode() + body)
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
