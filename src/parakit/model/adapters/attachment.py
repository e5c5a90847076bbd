"""Attach adapters to a plain model and detach them again: modules are swapped, nothing else changes.

An adapter is a set of wrappers, by the name of the module that each replaces. While it is attached, only its parameters
train, and the tokens of a prefix shorten the context window. An `AdapterSet` holds several adapters of one base.
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
from parakit.model.heads import TransformerModel


@dataclass(frozen=True)
class Adapter:
    """`wrappers` by the name of the base's module, the first that `named_modules` gives. `config`: the settings that it
    was created with, where they are known.
    """

    config: AdapterConfig | None
    wrappers: dict[str, Wrapper]

    def parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's parameters by module and name; one that two wrappers share, once."""
        named: dict[int, tuple[str, nn.Parameter]] = {}
        for module, wrapper in self.wrappers.items():
            for name, parameter in wrapper.adapter_parameters().items():
                named.setdefault(id(parameter), (f"{module}.{name}", parameter))
        return dict(named.values())


def attach(model: TransformerModel, adapter: Adapter) -> None:
    """Attach an adapter; from then on only it trains. A model has one at a time."""
    assert not is_adapted(model), "detach the other adapter first"
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, wrapper in adapter.wrappers.items():
        _swap(model, model.get_submodule(name), wrapper)
        if isinstance(wrapper, PrefixedTrunk):
            shorter = wrapper.config.max_seq_len - wrapper.n_prompt_tokens
            model.config = wrapper.config.replace(max_seq_len=shorter)
    for name, parameter in adapter.parameters().items():
        parameter.requires_grad_(not name.endswith("_start"))
    model.train(model.training)


def detach(model: TransformerModel) -> None:
    """Detach the adapter, if there is one: the base is unchanged, and all of it trains again."""
    for name, wrapper in list(wrappers_of(model)):
        _swap(model, wrapper, wrapper.base)
        if name == "trunk":
            restored: Any = wrapper.base.config
            model.config = restored
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def wrappers_of(model: nn.Module) -> Iterator[tuple[str, Wrapper]]:
    """The attached wrappers, with the name of the module that each replaces."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Wrapper))


@contextlib.contextmanager
def without_adapter(model: TransformerModel) -> Iterator[None]:
    """The base alone within the block: a reference model without a second copy of the weights."""
    attached = dict(wrappers_of(model))
    trained = [parameter.requires_grad for parameter in model.parameters()]
    detach(model)
    try:
        yield
    finally:
        if attached:
            attach(model, Adapter(None, attached))
        for parameter, trains in zip(model.parameters(), trained, strict=True):
            parameter.requires_grad_(trains)


def is_adapted(model: nn.Module) -> bool:
    """Whether an adapter is attached."""
    return next(wrappers_of(model), None) is not None


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the attached adapter, by their names in `model`."""
    ids = {id(p) for _, wrapper in wrappers_of(model) for p in wrapper.adapter_parameters().values()}
    return {name: p for name, p in model.named_parameters() if id(p) in ids}


class AdapterSet:
    """Adapters of one base, by name; at most one is attached."""

    def __init__(self, model: TransformerModel) -> None:
        self.model = model
        self.current: str | None = None
        self._adapters: dict[str, Adapter] = {}

    @property
    def names(self) -> list[str]:
        """In the order in which they were added."""
        return list(self._adapters)

    def add(self, name: str, adapter: Adapter) -> None:
        """Add an adapter that was created for this base; it is not attached."""
        if name in self._adapters:
            raise UserError(f"there is an adapter {name!r} already", "remove it, or choose another name")
        self._adapters[name] = adapter

    def use(self, name: str | None) -> None:
        """Attach this adapter instead of the current one; None: the base alone."""
        adapter = None if name is None else self.get(name)
        detach(self.model)
        if adapter is not None:
            attach(self.model, adapter)
        self.current = name

    def remove(self, name: str) -> None:
        """Remove an adapter, after detaching it if it is attached."""
        self.get(name)
        if self.current == name:
            self.use(None)
        del self._adapters[name]

    def get(self, name: str) -> Adapter:
        """The adapter of this name, attached or not."""
        if name not in self._adapters:
            raise UserError(f"there is no adapter {name!r}", f"there are: {', '.join(self.names) or 'none'}")
        return self._adapters[name]


def _swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace `old` by `new` under all its names: an embedding may be shared by two stacks."""
    names = [name for name, module in model.named_modules(remove_duplicate=False) if module is old]
    for name in names:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)
