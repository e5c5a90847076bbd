"""A spread model made whole, for a while or for good: each process that keeps it has a plain model, as before it was spread.

What follows training (validation, samples, rollouts, the model folder) runs on plain models, and in one process or in each by
itself. Weights are wholes one at a time, so a process holds its own parts and one whole model, never two.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed.fsdp import FSDPModule

from parakit.training.parallel.engine import local

_HOOKS = (
    *("_forward_pre_hooks", "_forward_hooks", "_state_dict_pre_hooks", "_state_dict_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
OVERRIDDEN = ("of_buckets", "_experts")  # methods that a spread module has of its own


def make_whole(model: nn.Module, keep: bool) -> Callable[[], None]:
    """Make `model` whole and plain in place where `keep`; every process calls this. Returns what spreads it again."""
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)  # of how it gathers
    wholes: dict[int, nn.Parameter] = {}
    before: list[tuple[dict[str, Any], str, Any]] = []
    classes: list[tuple[nn.Module, type]] = []
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not hasattr(parameter, "full_tensor"):
                continue
            if id(parameter) not in wholes:
                with torch.no_grad():
                    whole = parameter.full_tensor()
                if not keep:
                    whole = whole.new_empty(0)
                wholes[id(parameter)] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
            before.append((module._parameters, name, parameter))
        if keep:
            before += _plain_state(module)
            if isinstance(module, FSDPModule):
                classes.append((module, type(module)))
    if not keep:
        return lambda: None
    for values, name, value in before:
        if isinstance(value, nn.Parameter):
            values[name] = wholes[id(value)]
        elif name in _HOOKS:
            values[name] = OrderedDict(
                (key, hook) for key, hook in value.items() if not _is_distributed(hook)
            )
        else:
            values.pop(name, None)
    for module, spread in classes:
        module.__class__ = spread.__mro__[2]

    def spread_again() -> None:
        for module, spread in classes:
            module.__class__ = spread
        for values, name, value in before:
            values[name] = value

    return spread_again


def stay_whole(model: nn.Module) -> None:
    """Make `model` whole and plain in place for good; the memory of its parts is freed."""
    parts = [parameter for parameter in model.parameters() if hasattr(parameter, "full_tensor")]
    make_whole(model, keep=True)
    for part in parts:
        part.grad = None
        local(part.detach()).untyped_storage().resize_(
            0
        )  # PyTorch keeps the state of a module that was spread


def _plain_state(module: nn.Module) -> list[tuple[dict[str, Any], str, Any]]:
    """What a module has because it is spread: hooks, methods of its own, states."""
    found = [(module.__dict__, name, module.__dict__[name]) for name in _HOOKS if module.__dict__.get(name)]
    others = (*OVERRIDDEN, REGISTRY_KEY, STATE_KEY)
    return found + [
        (module.__dict__, name, module.__dict__[name]) for name in others if name in module.__dict__
    ]


def _is_distributed(hook: Any) -> bool:
    """Whether a hook is one of PyTorch's for spread modules."""
    function = getattr(hook, "hook", hook)
    return str(getattr(function, "__module__", "")).startswith("torch.distributed")
