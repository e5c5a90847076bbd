"""Read and change vectors inside a network, by the names of `sites`. Nothing in a layer knows of it.

    with capture(model.network, ["blocks.*.output", "blocks.2.attention.weights"]) as found:
        logits = run(model, encode_input(model, "The bird sees"))
    found["blocks.2.attention.weights"]          # (B, H, T, S)

`capture` gives what a forward pass computed, as tensors with their batch axis; `activations` the same of one text, as
numpy arrays without it. `edit` replaces vectors while its block lasts: a change is a function from the tensor at a site
to another of its shape, and several sites may be changed at once. Both are hooks of torch, and can be nested: what
`capture` gives inside `edit` is what the edited model computed; a site that is edited is captured as changed where
`edit` was entered first.

Names: `sites.sites` lists them; `*` matches any part. Of every softmax attention (`blocks.3.attention`,
`decoder.blocks.0.cross_attention`) there are also `.query` (B, H, T, D), `.key` and `.value` (B, G, S, D), after norms and
rotation, and `.weights` (B, H, T, S), computed again from them: see `attention_weights`. A trained prefix comes first
among the S keys. An unknown name is a `UserError` with the nearest one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.inference.loaded_model import Model
from parakit.inspection.attention_weights import AttentionCall, attention_weights, require_weights
from parakit.inspection.inputs import ModelInput, encode_input, run
from parakit.inspection.sites import ATTENTION_PARTS, Change, Site, attention_modules, match_names, sites
from parakit.model.layers.experts import MixtureOfExperts


@contextlib.contextmanager
def capture(network: Any, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that each forward pass inside the block fills: the latest pass counts. Raises `UserError` for a name
    that the network lacks, and for weights of attention that has none.
    """
    found: dict[str, Tensor] = {}
    known, modules = sites(network), attention_modules(network)
    with contextlib.ExitStack() as stack:
        calls: dict[str, list[str]] = {}
        for name in match_names(network, names):
            if name in known:
                stack.enter_context(_reading(known[name], found))
                continue
            module, _, part = name.rpartition(".")
            if part == "weights":
                require_weights(module, modules[module])
            calls.setdefault(module, []).append(part)
        for name, parts in calls.items():
            record = _recorder(name, modules[name], parts, found)
            stack.enter_context(attention_calls(modules[name], record))
        yield found


def _recorder(
    name: str, module: Any, parts: list[str], found: dict[str, Tensor]
) -> Callable[[AttentionCall], None]:
    def record(call: AttentionCall) -> None:
        for part in parts:
            value = attention_weights(module, call) if part == "weights" else getattr(call, part)
            found[f"{name}.{part}"] = value.detach()

    return record


@contextlib.contextmanager
def attention_calls(module: Any, record: Callable[[AttentionCall], None]) -> Iterator[None]:
    """Call `record` with the queries, keys, values and mask of every call of `module.attend` inside the block."""
    before, original = vars(module).get("attend"), module.attend

    def attend(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        record(AttentionCall(query, key, value, attention_mask))
        mixed: Tensor = original(query, key, value, attention_mask)
        return mixed

    module.attend = attend  # of this instance; the class stays as it is
    try:
        yield
    finally:
        del module.attend
        if before is not None:
            module.attend = before


@contextlib.contextmanager
def edit(network: Any, changes: Mapping[str, Change]) -> Iterator[None]:
    """Apply each change to the tensor at its site in every forward pass inside the block. Heads are (B, T, H, D). Raises
    `UserError` for a name that the network lacks; queries, keys and weights cannot be changed.
    """
    known = sites(network)
    with contextlib.ExitStack() as stack:
        for name, change in changes.items():
            assert name.rpartition(".")[2] not in ATTENTION_PARTS, "these are captured only"
            (one,) = match_names(network, [name])
            stack.enter_context(_hooked(known[one], change))
        yield


def activations(
    model: Model, text: str | ModelInput, names: Iterable[str], target: str | None = None
) -> dict[str, np.ndarray]:
    """Named arrays of one text, without the batch axis, at least float32. Names and errors as for `capture`."""
    given = encode_input(model, text, target) if isinstance(text, str) else text
    with capture(model.network, names) as found:
        run(model, given)
    return {name: as_array(value) for name, value in found.items()}


def as_array(value: Tensor) -> np.ndarray:
    """A tensor of one row as an array without the batch axis."""
    value = value.float() if value.is_floating_point() and value.itemsize < 4 else value
    array: np.ndarray = value[0].cpu().numpy() if value.ndim > 2 else value.cpu().numpy()
    return array


@contextlib.contextmanager
def _reading(site: Site, found: dict[str, Tensor]) -> Iterator[None]:
    def read(value: Tensor) -> Tensor:
        found[site.name] = value.detach()
        return value

    with _hooked(site, read):
        yield


@contextlib.contextmanager
def _hooked(site: Site, change: Change) -> Iterator[None]:
    """A hook at a site; heads are split before the change and joined after it."""
    if site.experts is not None:
        with _hooked_experts(site.module, site.experts, change):
            yield
        return

    def apply(value: Tensor) -> Tensor:
        if site.n_heads is None:
            return change(value)
        return change(value.unflatten(-1, (site.n_heads, -1))).flatten(-2)

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return apply(args[0]), *args[1:]

    def after(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return apply(output)

    point: Any = site.module.register_forward_pre_hook(before) if site.point == "input" else None
    point = point or site.module.register_forward_hook(after)
    try:
        yield
    finally:
        point.remove()


@contextlib.contextmanager
def _hooked_experts(inner: torch.nn.Module, experts: MixtureOfExperts, change: Change) -> Iterator[None]:
    """A hook on the neurons of routed experts. They exist in rows of the tokens that chose them, (N * K, F) sorted by expert;
    a change has them as (B, T, E * F), with zeros where a token does not go to an expert, which stay zero.
    """
    shape: list[int] = []

    def before(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        shape[:] = args[0].shape[:-1]  # (B, T)

    def after(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        assert experts.routing is not None
        chosen = experts.routing.chosen  # (N, K)
        order = chosen.flatten().argsort(stable=True)
        places = order // chosen.shape[1], chosen.flatten()[order]  # token and expert of each row
        n_experts, width = experts.up.shape[:2]
        spread = output.new_zeros(len(chosen), n_experts, width).index_put(places, output)
        changed = change(spread.flatten(1).unflatten(0, shape))
        return changed.flatten(0, 1).unflatten(-1, (n_experts, width))[places]

    with contextlib.ExitStack() as stack:
        stack.callback(experts.register_forward_pre_hook(before).remove)
        stack.callback(inner.register_forward_hook(after).remove)
        yield
