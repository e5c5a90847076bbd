"""Models by name: loaded when a request names them, within a bound of memory; the least recently used one is unloaded.

A model with running requests is never unloaded. All methods run in the event loop's thread; loading runs in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parakit.common.errors import UserError
from parakit.common.formatting import byte_size
from parakit.serving.config import ServeConfig
from parakit.serving.errors import ModelUnavailable, OutOfMemory, UnknownModel
from parakit.serving.models.locations import ModelLocation
from parakit.serving.models.served_model import GIB, ServedModel
from parakit.serving.models.served_prompts import open_served_prompts

if TYPE_CHECKING:
    from parakit.assistants.prompts.prompt import PromptTemplate

_logger = logging.getLogger("parakit.serving")


class ModelUse(NamedTuple):
    """A model while a request uses it, and the adapter that the request names."""

    served: ServedModel
    adapter: str | None


@dataclass(eq=False)
class _Entry:
    location: ModelLocation
    served: ServedModel | None = None
    n_users: int = 0
    last_used: int = 0
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Registry:
    """The models of a server, and the prompts that each of them is served with."""

    def __init__(self, locations: Sequence[ModelLocation], config: ServeConfig | None = None) -> None:
        """`UserError` for prompts that cannot be served, and for one with the name of an adapter."""
        self.config = config or ServeConfig()
        self.prompts = open_served_prompts(self.config.prompts)
        for location in locations:
            if both := [name for name in location.adapters if name in self.prompts]:
                raise UserError(
                    f"{location.name}:{both[0]} would be an adapter and a prompt",
                    f"rename one of them: --adapters NAME={location.adapters[both[0]]}",
                )
        self._entries = {location.name: _Entry(location) for location in locations}
        self._clock = itertools.count(1)
        self._making_room = asyncio.Lock()

    # --- names
    @property
    def names(self) -> list[str]:
        """Every name that a request may give: `MODEL`, `MODEL:ADAPTER`, and both with `:PROMPT`."""
        names = []
        for name, entry in self._entries.items():
            own = [name, *(f"{name}:{adapter}" for adapter in entry.location.adapters)]
            names += [*own, *(f"{one}:{prompt}" for one in own for prompt in self.prompts)]
        return names

    @property
    def locations(self) -> list[ModelLocation]:
        """Of all models."""
        return [entry.location for entry in self._entries.values()]

    @property
    def loaded(self) -> list[ServedModel]:
        """The models in memory."""
        return [entry.served for entry in self._entries.values() if entry.served is not None]

    def add(self, location: ModelLocation) -> None:
        """Serve one more model; the same name again replaces nothing."""
        self._entries.setdefault(location.name, _Entry(location))

    def n_users(self, name: str) -> int:
        """Requests that use a model now."""
        return self._entries[name].n_users

    def resolve(self, name: str) -> tuple[ModelLocation, str | None]:
        """The model and the adapter of a name; `UnknownModel`, with the nearest name, where there is none."""
        entry, adapter = self._find(name)
        return entry.location, adapter

    def prompt_of(self, name: str) -> PromptTemplate | None:
        """The prompt that a name ends with; None for a model alone. `UnknownModel` where there is no such name."""
        self._find(name)
        return self.prompts.get(name.rpartition(":")[2]) if ":" in name else None

    def _find(self, name: str) -> tuple[_Entry, str | None]:
        model, *parts = name.split(":")
        entry = self._entries.get(model)
        if parts and parts[-1] in self.prompts:
            parts.pop()
        if entry is None or len(parts) > 1 or (parts and parts[0] not in entry.location.adapters):
            raise UnknownModel(name, self.names)
        return entry, parts[0] if parts else None

    # --- use
    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[ModelUse]:
        """The model of this name, loaded, for the time of the block.

        Raises `UnknownModel`, `OutOfMemory` where it does not fit with the models that run requests, and
        `ModelUnavailable` for a folder that is gone or damaged.
        """
        entry, adapter = self._find(name)
        entry.n_users += 1  # from here on it is not unloaded
        try:
            yield ModelUse(await self._load(entry), adapter)
        finally:
            entry.n_users -= 1
            entry.last_used = next(self._clock)

    async def load(self, name: str) -> ServedModel:
        """Load a model if it is not in memory."""
        async with self.open(name) as use:
            return use.served

    async def _load(self, entry: _Entry) -> ServedModel:
        async with entry.loading:
            if entry.served is None:
                async with self._making_room:
                    await self._make_room(entry)
                    entry.served = await asyncio.to_thread(self._read, entry.location)
                    await self._make_room(entry)
            return entry.served

    def _read(self, location: ModelLocation) -> ServedModel:
        started = time.perf_counter()
        try:
            served = ServedModel(location, self.config, len(self._entries))
        except (UserError, OSError) as error:
            _logger.error("model %s cannot be loaded: %s", location.name, error)
            reason = error if isinstance(error, UserError) else UserError(str(error))
            raise ModelUnavailable(location.name, reason) from error
        seconds = round(time.perf_counter() - started, 2)
        _logger.info(
            "loaded %s", location.name, extra={"fields": {"model": location.name, "seconds": seconds}}
        )
        return served

    async def _make_room(self, entry: _Entry) -> None:
        """Unload until the models in memory, with this one, are within the bound."""
        if self.config.model_memory is None:
            return
        bound = int(self.config.model_memory * GIB)
        needed = 0 if entry.served is not None else weight_bytes(entry.location.path)
        while (used := sum(one.memory_bytes for one in self.loaded) + needed) > bound:
            idle = [one for one in self._entries.values() if one.served is not None and not one.n_users]
            if not idle:
                await self._give_up(entry, used, bound)
            await self._unload(min(idle, key=lambda one: one.last_used))

    async def _give_up(self, entry: _Entry, used: int, bound: int) -> None:
        await self._unload(entry)
        running = [one.location.name for one in self._entries.values() if one.served is not None]
        with_others = f" with {', '.join(running)}, which run requests" if running else ""
        raise OutOfMemory(
            f"{entry.location.name} takes {byte_size(used)} of memory{with_others}, and the bound is {byte_size(bound)}",
            "try again later, or start the server with a larger --model-memory or a smaller --cache-memory",
        )

    async def unload(self, name: str) -> bool:
        """Take a model out of memory; False where requests use it, or it was not loaded."""
        entry, _ = self._find(name)
        if entry.n_users or entry.served is None:
            return False
        await self._unload(entry)
        return True

    async def _unload(self, entry: _Entry) -> None:
        served, entry.served = entry.served, None
        if served is not None:
            await asyncio.to_thread(served.close)

    async def close(self) -> None:
        """Unload all models, whatever they run."""
        for entry in self._entries.values():
            await self._unload(entry)


def weight_bytes(folder: Path) -> int:
    """Bytes of the weight files in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
