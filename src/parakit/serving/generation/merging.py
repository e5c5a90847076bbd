"""The events of several generations as one stream, in the order in which they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from parakit.serving.generation.generation import Generation, GenerationEvent


async def merged(generations: Sequence[Generation]) -> AsyncIterator[tuple[int, GenerationEvent]]:
    """(number of the generation, event). Raises the error of the first that fails."""
    if len(generations) == 1:
        async for one in generations[0]:
            yield 0, one
        return
    queue: asyncio.Queue[tuple[int, GenerationEvent | BaseException | None]] = asyncio.Queue()

    async def read(number: int, generation: Generation) -> None:
        try:
            async for one in generation:
                queue.put_nowait((number, one))
            queue.put_nowait((number, None))
        except Exception as error:
            queue.put_nowait((number, error))

    readers = [asyncio.create_task(read(i, generation)) for i, generation in enumerate(generations)]
    try:
        n_open = len(readers)
        while n_open:
            number, found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                n_open -= 1
            else:
                yield number, found
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
