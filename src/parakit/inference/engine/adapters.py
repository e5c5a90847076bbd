"""Adapters by the row: requests with different adapters of one base share a pass.

Each module that an adapter replaces is replaced, for the time of a pass, by a `RowAdapted` that runs the base on all rows and
each adapter's wrapper on its own rows (as Chen et al. 2023, "Punica", and Sheng et al. 2023, "S-LoRA", do for LoRA; here any
wrapper of one module). Adapters that put keys and values before a text (prefix tuning) change the trunk itself: rows of one
such adapter have a pass to themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.inference.engine.weights import digest_of
from parakit.model.adapters import AdapterSet
from parakit.model.adapters.attachment import Adapter
from parakit.model.adapters.lora import LoraLinear, PissaLinear, Wrapper
from parakit.model.adapters.prefix_tuning import PrefixedTrunk

Place = tuple[nn.Module, str]  # a module's parent, and its name there


class RowsByAdapter:
    """Which rows of the pass under way have which adapter; the rows change between the trunk and the head."""

    def __init__(self, names: Sequence[str | None], device: torch.device) -> None:
        self.names, self.device = list(names), device
        self.select(range(len(names)))

    def select(self, rows: Sequence[int]) -> None:
        """Only these rows of the pass are computed from here on."""
        self.n_rows = len(rows)
        members: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            if (name := self.names[row]) is not None:
                members.setdefault(name, []).append(place)
        self.of = {name: torch.tensor(where, device=self.device) for name, where in members.items()}


class RowAdapted(nn.Module):
    """A module of the base, and what each adapter has in its place."""

    def __init__(self, base: nn.Module, wrappers: dict[str, Wrapper], rows: RowsByAdapter) -> None:
        super().__init__()
        self.base, self._rows = base, rows
        self._wrappers = wrappers  # a plain dict: not submodules

    @property
    def weight(self) -> Tensor:
        """The base's."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x)
        for name, rows in self._rows.of.items():
            if (wrapper := self._wrappers.get(name)) is not None:
                n_tokens = len(x) // self._rows.n_rows  # more than 1 where rows and tokens are one axis
                if n_tokens > 1:
                    rows = (rows[:, None] * n_tokens + torch.arange(n_tokens, device=x.device)).flatten()
                if type(wrapper) in (LoraLinear, PissaLinear):
                    result[rows] += wrapper.update(x[rows])  # type: ignore[operator]
                else:
                    result[rows] = wrapper(x[rows])
        return result


class RowAdapters:
    """The adapters of a model, for requests that name them."""

    def __init__(self, model: nn.Module, adapters: AdapterSet) -> None:
        self.model, self.adapters = model, adapters
        self._places: dict[str, list[Place]] = {}  # of every module that an adapter replaces

    def resolve(self, name: str | None) -> str | None:
        """The adapter that a request gets: the one that it names, else the one that is attached now."""
        if name is None:
            return self.adapters.current
        self.adapters.get(name)
        return name

    def n_prompt_tokens(self, name: str | None) -> int:
        """Tokens of the context window that an adapter takes."""
        trunk = None if name is None else self.adapters.get(name).wrappers.get("trunk")
        return trunk.n_prompt_tokens if isinstance(trunk, PrefixedTrunk) else 0

    def pass_of(self, name: str | None) -> str | None:
        """Rows with equal values can share a pass."""
        return name if self.n_prompt_tokens(name) else None

    def salts(self) -> dict[str | None, bytes]:
        """A digest of the weights that rows with each adapter run with."""
        of_adapters = {name: self.adapters.get(name).parameters().values() for name in self.adapters.names}
        of_any_adapter = {id(p) for parameters in of_adapters.values() for p in parameters}
        base = digest_of(p for p in self.model.parameters() if id(p) not in of_any_adapter)
        salts: dict[str | None, bytes] = {None: base}
        for name, parameters in of_adapters.items():
            salts[name] = base + name.encode() + digest_of(parameters)
        return salts

    @contextlib.contextmanager
    def base_alone(self) -> Iterator[None]:
        """The model without any adapter within the block."""
        current = self.adapters.current
        if current is None:
            yield
            return
        with self._swapped({n: w.base for n, w in self.adapters.get(current).wrappers.items()}):
            yield

    @contextlib.contextmanager
    def attached(self, names: Sequence[str | None], device: torch.device) -> Iterator[RowsByAdapter]:
        """Within the block row i of a pass has the adapter `names[i]`."""
        rows = RowsByAdapter(names, device)
        with self.base_alone():
            adapters: dict[str, Adapter] = {name: self.adapters.get(name) for name in rows.of}
            modules = dict.fromkeys(module for one in adapters.values() for module in one.wrappers)
            replaced: dict[str, nn.Module] = {}
            for module in modules:
                wrappers = {n: one.wrappers[module] for n, one in adapters.items() if module in one.wrappers}
                first = next(iter(wrappers.values()))
                is_trunk = isinstance(first, PrefixedTrunk)
                replaced[module] = first if is_trunk else RowAdapted(first.base, wrappers, rows)
            with self._swapped(replaced):
                yield rows

    @contextlib.contextmanager
    def _swapped(self, modules: dict[str, nn.Module]) -> Iterator[None]:
        """These modules in the places of those of their names within the block."""
        places = [place for name in modules for place in self._places_of(name)]
        before = [(parent, attribute, parent._modules[attribute]) for parent, attribute in places]
        try:
            for name, module in modules.items():
                for parent, attribute in self._places[name]:
                    parent._modules[attribute] = module
            yield
        finally:
            for parent, attribute, replaced in before:
                parent._modules[attribute] = replaced

    def _places_of(self, name: str) -> list[Place]:
        """Where the module of this name is: an embedding may be shared by two stacks."""
        if name not in self._places:
            now = self.model.get_submodule(name)
            named = self.model.named_modules(remove_duplicate=False)
            found = [other for other, module in named if module is now and ".base" not in other]
            pairs = [(other.rpartition(".")[0], other.rpartition(".")[2]) for other in found]
            self._places[name] = [(self.model.get_submodule(parent), last) for parent, last in pairs]
        return self._places[name]


def require_adapters(name: str | None, adapters: RowAdapters | None) -> str | None:
    """The adapter of a request; `UserError` where there is none of this name."""
    if adapters is not None:
        return adapters.resolve(name)
    if name is not None:
        raise UserError(f"adapter {name!r}: the engine was made without adapters", "give it an AdapterSet")
    return None
