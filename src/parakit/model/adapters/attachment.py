"""Adapters put on a plain model and taken off again: modules change places, nothing else changes.

An adapter is the wrappers that belong together, by the place of the module that each stands in for. While it is on,
only its own parameters train; a prefix takes its tokens out of the context window. Several adapters can wait beside
one base (`AdapterSet`), each with modules of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from parakit.common.errors import UserError
from parakit.model.adapters.config import AdapterConfig
from parakit.model.adapters.lora import Wrapper
from parakit.model.adapters.prefix_tuning import PrefixedTrunk
from parakit.model.heads import Model


@dataclass(frozen=True)
class Adapter:
    """`wrappers` by place: the name of the base's module, as `named_modules` first has it. `config`: what it was made
    with, where that is known.
    """

    config: AdapterConfig | None
    wrappers: dict[str, Wrapper]

    def parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's own, by place and name; what two wrappers share, once."""
        found: dict[int, tuple[str, nn.Parameter]] = {}
        for place, wrapper in self.wrappers.items():
            for name, parameter in wrapper.own().items():
                found.setdefault(id(parameter), (f"{place}.{name}", parameter))
        return dict(found.values())


def attach(model: Model, adapter: Adapter) -> None:
    """Put an adapter on; from then on only it trains. A model has one at a time."""
    assert not is_adapted(model), "take the other adapter off first"
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for place, wrapper in adapter.wrappers.items():
        _put(model, model.get_submodule(place), wrapper)
        if isinstance(wrapper, PrefixedTrunk):
            shorter = wrapper.config.max_seq_len - wrapper.n_prompt_tokens
            model.config = wrapper.config.replace(max_seq_len=shorter)
    for name, parameter in adapter.parameters().items():
        parameter.requires_grad_(not name.endswith("_start"))
    model.train(model.training)


def detach(model: Model) -> None:
    """Take the adapter off, if there is one: the base as it was, all of which trains again."""
    for place, wrapper in list(wrappers_of(model)):
        _put(model, wrapper, wrapper.base)
        if place == "trunk":
            restored: Any = wrapper.base.config
            model.config = restored
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def wrappers_of(model: nn.Module) -> Iterator[tuple[str, Wrapper]]:
    """The wrappers that are on, by the place that each stands at."""
    return ((place, module) for place, module in model.named_modules() if isinstance(module, Wrapper))


@contextlib.contextmanager
def without_adapter(model: Model) -> Iterator[None]:
    """The base alone for the length of the block: a reference that costs no second model."""
    on = dict(wrappers_of(model))
    trained = [parameter.requires_grad for parameter in model.parameters()]
    detach(model)
    try:
        yield
    finally:
        if on:
            attach(model, Adapter(None, on))
        for parameter, trains in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(trains)


def is_adapted(model: nn.Module) -> bool:
    """Whether an adapter is on."""
    return next(wrappers_of(model), None) is not None


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the adapters of `model` brought, by their names in it."""
    own = {id(p) for _, wrapper in wrappers_of(model) for p in wrapper.own().values()}
    return {name: p for name, p in model.named_parameters() if id(p) in own}


class AdapterSet:
    """Adapters that wait beside one base, by name; at most one is on."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.current: str | None = None
        self._adapters: dict[str, Adapter] = {}

    @property
    def names(self) -> list[str]:
        """In the order in which they came."""
        return list(self._adapters)

    def add(self, name: str, adapter: Adapter) -> None:
        """Keep an adapter that was made for this base; it is not put on."""
        if name in self._adapters:
            raise UserError(f"there is an adapter {name!r} already", "remove it, or choose another name")
        self._adapters[name] = adapter

    def use(self, name: str | None) -> None:
        """Put this adapter on in the place of another; None: the base alone."""
        adapter = None if name is None else self._named(name)
        detach(self.model)
        if adapter is not None:
            attach(self.model, adapter)
        self.current = name

    def remove(self, name: str) -> None:
        """Forget an adapter; it is taken off where it is on."""
        self._named(name)
        if self.current == name:
            self.use(None)
        del self._adapters[name]

    def _named(self, name: str) -> Adapter:
        if name not in self._adapters:
            raise UserError(f"there is no adapter {name!r}", f"there are: {', '.join(self.names) or 'none'}")
        return self._adapters[name]


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """`new` at every place where `old` stands: an embedding may serve two stacks."""
    places = [place for place, module in model.named_modules(remove_duplicate=False) if module is old]
    for place in places:
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, new)
