"""Attention of every head for one text: weights, weights times what they carry, rollout and flow.

A weight alone says little where the vector it carries is short: the norm of weight times transformed value is what
reaches the residual stream (Kobayashi et al. 2020, "Attention is not only a weight"). Rollout and flow follow attention
through all layers down to the tokens (Abnar and Zuidema 2020): rollout multiplies the layers' matrices, each the mean of
its heads and half of the identity for the residual path; flow is the maximum flow from a token to each token below it.

Shapes: L layers, H heads, T queries, S keys (a trained prefix first), D head_dim, W d_model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.attention_weights import (
    AttentionCall,
    attention_weights,
    head_values,
    why_no_weights,
)
from parakit.inspection.capture import attention_calls
from parakit.inspection.inputs import ModelInput, encode_input, run
from parakit.inspection.sites import StackLayer, layers

MapKind = Literal["weights", "norms"]
MAX_FLOW_TOKENS = 64


@dataclass(frozen=True)
class AttentionMaps:
    """The maps of one text."""

    given: ModelInput
    kind: MapKind
    maps: dict[str, np.ndarray]
    """By name (`blocks.3.attention`, `decoder.blocks.0.cross_attention`): (H, T, S) float32, query by key."""
    without_maps: dict[str, str]
    """Attention without maps, and why."""

    def queries(self, name: str) -> tuple[str, ...]:
        """The tokens of a map's rows."""
        return self.given.shown("encoder." if name.startswith("encoder.") else "")

    def keys(self, name: str) -> tuple[str, ...]:
        """The tokens of a map's columns; those of a trained prefix are numbered."""
        is_source = name.startswith("encoder.") or name.endswith("cross_attention")
        tokens = self.given.source_tokens if is_source else self.given.tokens
        n_prefix = self.maps[name].shape[2] - len(tokens)
        return (*(f"[prefix {i + 1}]" for i in range(n_prefix)), *tokens)


def attention_maps(
    model: Model,
    text: str | ModelInput,
    *,
    layer: int | None = None,
    head: int | None = None,
    kind: MapKind = "weights",
    target: str | None = None,
) -> AttentionMaps:
    """The attention of a text; `layer` (all stacks' layers of this number) and `head`: only these, which keeps the head axis.

    kind `weights`: rows sum to one, but for what a sink takes. `norms`: |weight * value times output matrix| in units of
    the residual stream. Raises `UserError` for a layer or head that is not there, for a text over the context window, and
    where none of the chosen layers has a map.
    """
    network = model.network
    chosen = chosen_layers(network, layer, head)
    given = encode_input(model, text, target) if isinstance(text, str) else text
    maps: dict[str, np.ndarray] = {}
    without_maps: dict[str, str] = {}
    with _reading_maps(chosen, head, kind, maps, without_maps):
        run(model, given)
    if not maps:
        name, reason = next(iter(without_maps.items()))
        raise UserError(
            f"{name} has no attention map: {reason}",
            "take a layer or a model of softmax attention; activations and ablations work here too",
        )
    return AttentionMaps(given, kind, maps, without_maps)


def _reading_maps(
    chosen: Sequence[StackLayer],
    head: int | None,
    kind: MapKind,
    maps: dict[str, np.ndarray],
    without_maps: dict[str, str],
) -> contextlib.ExitStack:
    """A context in which a forward pass fills `maps`; `without_maps` is filled at once."""
    stack = contextlib.ExitStack()
    for one in chosen:
        for attention_kind, module in one.attentions.items():
            name = f"{one.name}.{attention_kind}"
            if reason := why_no_weights(module):
                without_maps[name] = reason
                continue
            stack.enter_context(attention_calls(module, _recorder(name, module, head, kind, maps)))
    return stack


def _recorder(
    name: str, module: Any, head: int | None, kind: MapKind, maps: dict[str, np.ndarray]
) -> Callable[[AttentionCall], None]:
    def record(call: AttentionCall) -> None:
        weights = attention_weights(module, call)[0]  # (H, T, S)
        if kind == "norms":
            weights = weights * value_norms(module, call)[:, None]
        chosen = weights if head is None else weights[head : head + 1]
        maps[name] = chosen.float().cpu().numpy()

    return record


def value_norms(attention: Any, call: AttentionCall) -> torch.Tensor:
    """The length (H, S) of what each key's value adds to the residual stream through its head's part of the output matrix,
    without the matrix' bias. Any linear output matrix: wrapped by an adapter, or quantized. A gate (Qwen3.5), which depends
    on the query, is left out.
    """
    values = head_values(call)[0]  # (H, S, D)
    n_heads, n_keys, head_dim = values.shape
    dtype = call.value.dtype
    nothing = attention.output(torch.zeros(1, 1, n_heads * head_dim, device=values.device, dtype=dtype))
    norms = []
    for number, of_head in enumerate(values):  # one head at a time: all at once takes H * S * W numbers
        alone = torch.zeros(1, n_keys, n_heads * head_dim, device=values.device, dtype=dtype)
        alone[0, :, number * head_dim : (number + 1) * head_dim] = of_head.to(dtype)
        norms.append((attention.output(alone) - nothing)[0].float().norm(dim=-1))
    return torch.stack(norms)


def chosen_layers(network: Any, layer: int | None, head: int | None) -> list[StackLayer]:
    """The layers of this number, in every stack; all without one. Raises `UserError` where a number is not there."""
    every = layers(network)
    chosen = [one for one in every if layer is None or one.number == layer]
    if not chosen:
        last = max(one.number for one in every)
        raise UserError(f"layer {layer} is not there: the layers are 0 to {last}", "choose one of these")
    fewest = min(one.n_heads for one in chosen)
    if head is not None and not 0 <= head < fewest:
        raise UserError(f"head {head} is not there: the heads are 0 to {fewest - 1}", "choose one of these")
    return chosen


def rollout(maps: AttentionMaps, stack: str | None = None) -> np.ndarray:
    """(L, T, T): how much of each token of the text reaches each token after each layer, by the products of the mean maps
    with half of the identity (Abnar and Zuidema 2020, eq. 1). Rows sum to one. `stack`: of an encoder-decoder `encoder.` or
    `decoder.`, where the maps are of self-attention. Raises `UserError` where a layer has no map.
    """
    result: list[np.ndarray] = []
    for mixed in _mixed_layers(maps, stack):
        result.append(mixed if not result else mixed @ result[-1])
    return np.stack(result)


def flow(maps: AttentionMaps, query: int, stack: str | None = None) -> np.ndarray:
    """(T,): the maximum flow from token `query` after the last layer to each token below the first one, where the layers'
    mean maps with half of the identity are capacities (Abnar and Zuidema 2020, section 3). At most `MAX_FLOW_TOKENS` tokens,
    as each flow takes time that grows with L * T^2. Errors as for `rollout`.
    """
    import networkx

    mixed = list(_mixed_layers(maps, stack))
    n_tokens, top = len(mixed[0]), len(mixed)
    if n_tokens > MAX_FLOW_TOKENS:
        raise UserError(
            f"{n_tokens} tokens, and attention flow is for {MAX_FLOW_TOKENS} at most",
            "take a shorter text, or rollout, which is as quick for any length",
        )
    if not -n_tokens <= query < n_tokens:
        raise UserError(f"token {query} is not there: the tokens are 0 to {n_tokens - 1}", "choose one")
    graph = networkx.DiGraph()
    for level, capacities in enumerate(mixed, 1):
        for to, row in enumerate(capacities):
            graph.add_edges_from(
                ((level, to), (level - 1, at), {"capacity": float(row[at])}) for at in np.flatnonzero(row)
            )
    source = (top, query % n_tokens)
    reachable = networkx.descendants(graph, source)
    flows = np.zeros(n_tokens, np.float32)
    for at in range(n_tokens):
        if (0, at) in reachable:
            flows[at] = networkx.maximum_flow_value(graph, source, (0, at))
    return flows


def _mixed_layers(maps: AttentionMaps, stack: str | None) -> Iterator[np.ndarray]:
    """Each layer's (T, T): the mean of its heads over the text's tokens, and half of the identity."""
    if stack is None:
        stack = "decoder." if maps.given.source_ids else ""
    if lacking := [name for name in maps.without_maps if name.startswith(stack)]:
        raise UserError(
            f"{lacking[0]} has no attention map: {maps.without_maps[lacking[0]]}",
            "rollout and flow follow attention through every layer; look at single layers instead",
        )
    for name, of_heads in maps.maps.items():
        if name.startswith(stack) and name.endswith(".attention"):
            n_tokens = of_heads.shape[1]
            mean = of_heads.mean(0)[:, -n_tokens:].astype(np.float64)  # without a trained prefix
            mean /= np.maximum(mean.sum(-1, keepdims=True), 1e-12)
            yield (mean + np.eye(n_tokens)) / 2
