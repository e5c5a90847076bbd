"""Models whose weights have no memory yet: built on the meta device, with what initializes them noted instead of done.

The notes are drawn later, tensor by tensor in the same order and from the same state of torch's generator, so that the
weights are those of a model that was built at once; a process then keeps the part that it holds of each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ModelT = TypeVar("ModelT", bound=nn.Module)
_SCALING = ("mul_", "__imul__")
_IN_PLACE = ("zero_", "fill_", "normal_", "uniform_", *_SCALING)
_PENDING = "_pending_weights"


@dataclass(frozen=True)
class Initialization:
    """One call of an initializer: the parameter it was called on, and what it does to a tensor of this shape."""

    parameter: nn.Parameter
    apply: Callable[[Tensor], Any]
    scales: bool
    """Whether it changes the values that are there, each by itself."""


class _Notes(TorchFunctionMode):
    """Notes initializers instead of calling them: on the meta device they would import torch's compiler, which takes seconds.
    Position tables are made on the CPU for the same reason.
    """

    def __init__(self, notes: list[Initialization]) -> None:
        super().__init__()
        self.notes = notes

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options: dict[str, Any] = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        initializes = getattr(func, "__module__", "") == "torch.nn.init"
        if initializes or (name in _IN_PLACE and isinstance(args[0], nn.Parameter)):
            target, rest = (args[0], args[1:]) if args else (options.pop("tensor"), ())
            if isinstance(target, nn.Parameter):
                self.notes.append(
                    Initialization(target, lambda tensor: func(tensor, *rest, **options), name in _SCALING)
                )
            return target
        if func in (torch.arange, torch.tensor):
            options = {"device": "cpu", **options}
        return func(*args, **options)


@contextlib.contextmanager
def without_memory() -> Iterator[list[Initialization]]:
    """Inside of the block models are built without memory for their weights; the initializers that they would call."""
    notes: list[Initialization] = []
    with torch.device("meta"), _Notes(notes):
        yield notes


def build_without_memory(build: Callable[[], ModelT], fill: Callable[[nn.Parameter, Tensor], None]) -> ModelT:
    """The model of `build`, whose weights are drawn when `fill_pending` is called: `fill(parameter, values)` copies what this
    process holds of them. Buffers have their values.
    """
    state = torch.get_rng_state()
    with without_memory() as notes:
        model = build()
    with _Notes([]):
        for module in model.modules():
            if module._buffers:
                module.reset()  # type: ignore[operator]
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def draw() -> None:
        now = dict(
            model.named_parameters()
        )  # others than those that were noted: the model was spread meanwhile
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            for note in notes:
                parameter = now.get(names.get(id(note.parameter), ""))
                if note.scales:
                    assert parameter is not None
                    note.apply(getattr(parameter, "_local_tensor", parameter))
                    continue
                values = torch.empty(note.parameter.shape, dtype=note.parameter.dtype)
                note.apply(values)
                if parameter is not None:
                    fill(parameter, values)

    set_pending(model, draw)
    return model


def allocate(model: nn.Module, device: torch.device) -> None:
    """Give the parameters of a model without memory, or the parts of them that this process holds, memory on `device`. A tied
    one stays one.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.is_meta:
                continue
            if id(parameter) not in made:
                values = torch.empty_like(parameter, device=device)
                made[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
            module._parameters[name] = made[id(parameter)]


def set_pending(model: nn.Module, fill: Callable[[], None]) -> None:
    """Note what gives the weights of a model without memory their values."""
    setattr(model, _PENDING, fill)


def is_pending(model: nn.Module) -> bool:
    """Whether the weights of a model have no values yet."""
    return hasattr(model, _PENDING)


def fill_pending(model: nn.Module) -> None:
    """Give the weights of a model, which have memory by now, their values."""
    fill = getattr(model, _PENDING)
    delattr(model, _PENDING)
    fill()
