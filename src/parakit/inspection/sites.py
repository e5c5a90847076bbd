"""Named places in a network where vectors can be read or changed: `blocks.3.attention`, `decoder.blocks.0.feed_forward`.

A site is the input or the output of a module. Names of an encoder-decoder begin with `encoder.` or `decoder.`. Wrapped
modules (adapters, quantized weights) are sites like plain ones: the names are the places of the network, not of classes.

Shapes: B rows, T tokens, H heads, D head_dim, F d_ff, E experts.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.model.backbones import EncoderDecoder, Stack
from parakit.model.layers.attention import Attention
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.gated_delta import GatedDeltaRule

ATTENTION_PARTS = ("query", "key", "value", "weights")


@dataclass(frozen=True)
class Site:
    """One place: its module, whether its input or its output, and how many heads its last axis is split into. `experts`: those
    whose neurons pass there, in rows of the tokens that chose them.
    """

    name: str
    module: nn.Module
    point: Literal["input", "output"]
    n_heads: int | None = None
    experts: MixtureOfExperts | None = None


@dataclass(frozen=True)
class StackLayer:
    """One block of a stack."""

    stack: str
    """`encoder.`, `decoder.`, or nothing where there is one stack."""
    number: int
    block: Any
    n_heads: int
    """Of its attention; of a recurrent layer those of its values."""

    @property
    def name(self) -> str:
        """`blocks.3`, `decoder.blocks.3`."""
        return f"{self.stack}blocks.{self.number}"

    @property
    def attentions(self) -> dict[str, Any]:
        """The attention modules by their names: `attention`, and `cross_attention` where there is one."""
        found = {"attention": self.block.attention}
        if self.block.cross_attention is not None:
            found["cross_attention"] = self.block.cross_attention
        return found


def stacks(network: Any) -> dict[str, Any]:
    """The stacks of blocks by the beginning of their sites' names."""
    trunk = network.trunk
    plain = trunk.base if not isinstance(trunk, Stack | EncoderDecoder) else trunk
    if isinstance(plain, EncoderDecoder):
        return {"encoder.": plain.encoder, "decoder.": plain.decoder}
    return {"": plain}


def layers(network: Any) -> list[StackLayer]:
    """Every block, in the order of the forward pass."""
    return [
        StackLayer(stack, number, block, _n_heads(block.attention, module.config))
        for stack, module in stacks(network).items()
        for number, block in enumerate(module.blocks)
    ]


def _n_heads(attention: Any, config: Any) -> int:
    return int(attention.rule.n_value_heads if isinstance(attention, GatedDeltaRule) else config.n_heads)


def sites(network: Any) -> dict[str, Site]:
    """All sites of a network by name, but those of `ATTENTION_PARTS`, which no module's input or output is.

    By block: `input`, `output` (the residual stream before and after), `attention` (what it writes, before a norm of
    outputs), `attention.heads` (B, T, H, D), what the heads give to the output matrix; `cross_attention` alike;
    `feed_forward`, `feed_forward.neurons` (B, T, F), and of experts `feed_forward.router` (tokens, E), logits,
    `feed_forward.experts.neurons` (B, T, E * F), zero where a token does not go to the expert, and
    `feed_forward.shared.neurons`. By stack: `embedding`, `hidden`. And `logits`, before a soft cap.
    """
    found = [site for layer in layers(network) for site in _of_layer(layer)]
    for stack, module in stacks(network).items():
        found += [
            Site(f"{stack}embedding", module.blocks[0], "input"),
            Site(f"{stack}hidden", module, "output"),
        ]
    if hasattr(network, "lm_head"):
        found.append(Site("logits", network.lm_head, "output"))
    return {site.name: site for site in found}


def _of_layer(layer: StackLayer) -> Iterator[Site]:
    yield Site(f"{layer.name}.input", layer.block, "input")
    for kind, attention in layer.attentions.items():
        yield Site(f"{layer.name}.{kind}", attention, "output")
        yield Site(f"{layer.name}.{kind}.heads", attention.output, "input", layer.n_heads)
    feed_forward, name = layer.block.feed_forward, f"{layer.name}.feed_forward"
    yield Site(name, feed_forward, "output")
    if isinstance(feed_forward, MixtureOfExperts):
        yield Site(f"{name}.router", feed_forward.router, "output")
        yield Site(f"{name}.experts.neurons", feed_forward.inner, "output", experts=feed_forward)
        if feed_forward.shared is not None:
            yield Site(f"{name}.shared.neurons", feed_forward.shared.down, "input")
    else:
        yield Site(f"{name}.neurons", feed_forward.down, "input")
    yield Site(f"{layer.name}.output", layer.block, "output")


def attention_names(network: Any) -> list[str]:
    """The names of all attention modules: `blocks.0.attention`, `decoder.blocks.0.cross_attention`."""
    return [f"{layer.name}.{kind}" for layer in layers(network) for kind in layer.attentions]


def attention_modules(network: Any) -> dict[str, Any]:
    """The same, with the modules."""
    return {
        f"{layer.name}.{kind}": module
        for layer in layers(network)
        for kind, module in layer.attentions.items()
    }


def match_names(network: Any, patterns: Iterable[str]) -> list[str]:
    """The names of sites that match `patterns` (`blocks.*.output`), parts of attention included, in the order of the
    forward pass. Raises `UserError` for a pattern that matches nothing, with the nearest name.
    """
    known = [*sites(network)]
    known += [
        f"{name}.{part}"
        for name, module in attention_modules(network).items()
        for part in (ATTENTION_PARTS if isinstance(module, Attention) else ())
    ]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(known, pattern)
        if not matches:
            close = closest_match(pattern, known)
            last = layers(network)[-1].name
            hint = f"did you mean {close!r}?" if close else "names are as blocks.0.attention.weights"
            raise UserError(f"this model has no {pattern!r}; its last layer is {last!r}", hint)
        chosen |= dict.fromkeys(matches)
    return list(chosen)


Change = Callable[[torch.Tensor], torch.Tensor]
