"""Direct logit attribution: how much each part of the network adds to one token's logit by itself.

Every part writes into the residual stream, and the logit is read from it. With the statistics of the norms behind it held
fixed, the way from a part to the logit is linear, so the parts' shares sum to the logit (Elhage et al. 2021, "A mathematical
framework for transformer circuits", section on direct paths; nostalgebraist 2020 for the fixed norm). What a part changes in
later parts is not in its share: ablation measures that. Post-norm blocks and norms of outputs are followed the same way; the
activation in an encoder's head is held fixed as a gate.

Shapes: T tokens, V vocabulary, H heads, D head_dim, W d_model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.inference.capabilities import model_kind
from parakit.inference.loaded_model import Model
from parakit.inspection.capture import capture
from parakit.inspection.inputs import HAS_VOCABULARY, ModelInput, encode_input, run_batch
from parakit.inspection.sites import StackLayer, layers, stacks
from parakit.model.heads import Transform
from parakit.model.layers.blocks import Block, OutputNormBlock, ScaledBlock
from parakit.model.layers.norms import RMSNorm, ZeroCenteredRMSNorm


@dataclass(frozen=True)
class Attribution:
    """The shares of one logit, or of the difference of two, before a soft cap."""

    shares: dict[str, np.ndarray]
    """`embedding` (), `blocks.0.attention.heads` (H,), `blocks.0.attention.bias` (), `blocks.0.feed_forward` (), and `bias`
    (), of the norms and the output matrix."""
    logit: float
    """As the forward pass computed it."""

    @property
    def total(self) -> float:
        """The sum of the shares; the logit but for rounding."""
        return float(sum(share.sum() for share in self.shares.values()))


def logit_attribution(
    model: Model,
    text: str | ModelInput,
    token_id: int,
    *,
    against: int | None = None,
    position: int = -1,
    target: str | None = None,
) -> Attribution:
    """The shares in the logit of `token_id` at a position, minus that of `against` where it is given. The row of a decoder at
    `position` predicts the token behind it. Raises `UserError` for a model without a vocabulary's logits, a position or
    token that is not there, and a network whose parts do not add up (a convolution over tokens).
    """
    network: Any = model.network
    if not isinstance(network, HAS_VOCABULARY):
        kind = model_kind(network)
        raise UserError(
            f"this model has no logits of tokens: it is {kind.description if kind else 'another kind'}",
            "take a language model or an encoder that fills masks",
        )
    stack = "decoder." if "decoder." in stacks(network) else ""
    trunk = stacks(network)[stack]
    if trunk.convolution is not None:
        raise UserError(
            "this model's first layer mixes tokens by a convolution", "shares of a logit do not add up there"
        )
    given = encode_input(model, text, target) if isinstance(text, str) else text
    _check(given, position, [token_id, *([] if against is None else [against])], network.lm_head)
    blocks = [one for one in layers(network) if one.stack == stack]
    names = [f"{one.name}.{part}" for one in blocks for part in _parts(one)]
    norms = [trunk.final_norm, *_norms(blocks), *network.transform.modules()]
    with (
        torch.no_grad(),
        capture(network, [f"{stack}embedding", "logits", *names]) as found,
        _inputs(norms) as inputs,
    ):
        run_batch(network, [given])
    at = {name: value[0, position].detach() for name, value in found.items()}
    inputs = {module: value[0, position] for module, value in inputs.items()}
    path = _Path(inputs, found["logits"])
    path.enter_head(network, token_id, against)
    if trunk.output_projection is not None:
        path.back(trunk.output_projection, trunk.config.d_model)
    path.back_norm(trunk.final_norm)
    shares: dict[str, np.ndarray] = {}
    for layer in reversed(blocks):
        path.back_block(layer, at, shares)
    shares["embedding"] = path.share(at[f"{stack}embedding"])
    ordered = dict(reversed(shares.items())) | {"bias": np.array(path.bias)}
    logits = at["logits"].double()
    logit = float(logits[token_id] - (0 if against is None else logits[against]))
    return Attribution(ordered, logit)


def _check(given: ModelInput, position: int, token_ids: list[int], lm_head: Any) -> None:
    n_tokens, vocab_size = len(given.token_ids), lm_head.out_features
    if not -n_tokens <= position < n_tokens:
        raise UserError(
            f"position {position} is not there: the text has {n_tokens} tokens", "choose one of these"
        )
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise UserError(
                f"token id {token_id} is outside the vocabulary of {vocab_size}", "choose another"
            )


def _parts(layer: StackLayer) -> list[str]:
    found = [f"{kind}.heads" for kind in layer.attentions]
    return [*found, *layer.attentions, "feed_forward"]


def _norms(blocks: Iterable[StackLayer]) -> Iterator[nn.Module]:
    for layer in blocks:
        yield from (module for name, module in layer.block.named_children() if name.endswith("norm"))


@contextlib.contextmanager
def _inputs(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What each module reads in the latest pass inside the block."""
    found: dict[nn.Module, Tensor] = {}

    def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found[module] = args[0].detach()

    hooks = [module.register_forward_pre_hook(read) for module in set(modules)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class _Path:
    """The way from the logit back to the parts: the gradient (W,) along it, and what its constants add."""

    def __init__(self, inputs: dict[nn.Module, Tensor], like: Tensor) -> None:
        self.inputs, self.dtype, self.device = inputs, like.dtype, like.device
        self.gradient = torch.zeros(())
        self.bias = 0.0

    def share(self, written: Tensor) -> np.ndarray:
        """What a part adds that wrote these vectors (..., W)."""
        return (written.double() @ self.gradient.double()).cpu().numpy()

    def enter_head(self, network: Any, token_id: int, against: int | None) -> None:
        """From the logit through the output matrix, the scale, and the transform of an encoder's head."""
        head = network.lm_head
        wanted = torch.zeros(head.out_features, dtype=self.dtype, device=self.device)
        wanted[token_id] += 1
        if against is not None:
            wanted[against] -= 1
        self.gradient = wanted
        self.back(head, network.config.d_token)
        self.gradient = self.gradient * network.logit_scale
        if isinstance(network.transform, Transform):
            self.back_norm(network.transform.norm)
            before = network.transform.dense(self.inputs[network.transform.dense])
            gate = torch.where(before == 0, 0, network.transform.activation(before) / before)
            self.gradient = self.gradient * gate.detach()
            self.back(network.transform.dense, self.inputs[network.transform.dense].shape[-1])

    def back(self, linear: Any, width: int) -> None:
        """Through a linear module that reads vectors of this width, wrapped or not; its bias is a constant."""
        origin = torch.zeros(1, width, dtype=self.dtype, device=self.device, requires_grad=True)
        with torch.enable_grad():
            value = linear(origin)[0] @ self.gradient.to(self.dtype)
        self.bias += float(value.detach())
        self.gradient = torch.autograd.grad(value, origin)[0][0]

    def back_norm(self, norm: nn.Module) -> None:
        """Through a norm with the statistics of its input."""
        if isinstance(norm, nn.Identity):
            return
        x = self.inputs[norm].double()
        gradient = self.gradient.double()
        if isinstance(norm, nn.LayerNorm):
            if norm.bias is not None:
                self.bias += float(gradient @ norm.bias.detach().double())
            weight = 1.0 if norm.weight is None else norm.weight.detach().double()
            scaled = gradient * weight / (x.var(correction=0) + norm.eps).sqrt()
            self.gradient = scaled - scaled.mean()
            return
        assert isinstance(norm, RMSNorm)
        weight = norm.weight.detach().double() + isinstance(norm, ZeroCenteredRMSNorm)
        self.gradient = gradient * weight / (x.square().mean() + norm.eps).sqrt()

    def back_block(self, layer: StackLayer, at: dict[str, Tensor], shares: dict[str, np.ndarray]) -> None:
        """Through a block, the last of its parts first."""
        block: Block = layer.block
        scale = block.residual_scale if isinstance(block, ScaledBlock) else 1.0
        for kind in ("feed_forward", *reversed(layer.attentions)):
            if block.post_norm:
                self.back_norm(getattr(block, f"{kind}_norm"))
            along = self.gradient
            if isinstance(block, OutputNormBlock):
                self.back_norm(getattr(block, f"{kind}_output_norm"))
            self.gradient = self.gradient * scale
            written = at[f"{layer.name}.{kind}"]
            if kind == "feed_forward":
                shares[f"{layer.name}.{kind}"] = self.share(written)
            else:
                heads = _written_by_heads(layer.attentions[kind].output, at[f"{layer.name}.{kind}.heads"])
                shares[f"{layer.name}.{kind}.bias"] = self.share(written - heads.sum(0))
                shares[f"{layer.name}.{kind}.heads"] = self.share(heads)
            self.gradient = along


def _written_by_heads(output: Any, heads: Tensor) -> Tensor:
    """What each head's vector (H, D) becomes by its part of a linear output matrix: (H, W)."""
    n_heads, head_dim = heads.shape
    alone = torch.zeros(n_heads + 1, n_heads, head_dim, dtype=heads.dtype, device=heads.device)
    index = torch.arange(n_heads, device=heads.device)
    alone[index, index] = heads
    with torch.no_grad():
        written = output(alone.flatten(1)[None])[0]
    return (written[:-1] - written[-1]).detach()
