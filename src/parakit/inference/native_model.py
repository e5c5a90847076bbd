"""A plain decoder as the structures that the kernels read: addresses of its weights, and what its blocks do.

Every module is checked by its exact class, and for hooks: a subclass, a wrapper (adapters, parametrizations) or a hook may
compute something else.
"""

from __future__ import annotations

from ctypes import c_void_p
from typing import Any

import torch
from torch import Tensor, nn

from parakit.model.backbones import Decoder
from parakit.model.heads import LanguageModel
from parakit.model.kernels import layout
from parakit.model.layers import norms
from parakit.model.layers.attention import Attention, SinkAttention
from parakit.model.layers.blocks import Block, OutputNormBlock, ParallelBlock, ScaledBlock
from parakit.model.layers.efficient_attention import LocalAttention, LocalSinkAttention
from parakit.model.layers.feed_forward import FeedForward
from parakit.model.layers.positions import LearnedPositions, RotaryPositions, SinusoidalPositions
from parakit.model.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from parakit.model.quantized.layers import TiedQuantizedLinear

KINDS = {torch.float32: layout.FP32, torch.bfloat16: layout.BF16, torch.float16: layout.FP16}
LINEAR = (nn.Linear, QuantizedLinear, TiedQuantizedLinear)
ATTENTION = (Attention, LocalAttention, SinkAttention, LocalSinkAttention)
BLOCKS = {
    Block: layout.PRE_NORM,
    ScaledBlock: layout.PRE_NORM,
    OutputNormBlock: layout.PRE_NORM,
    ParallelBlock: layout.PARALLEL,
}
NORMS = {
    norms.RMSNorm: (layout.RMS_NORM, False),
    norms.ZeroCenteredRMSNorm: (layout.RMS_NORM, True),
    norms.WidthRMSNorm: (layout.RMS_NORM, False),
    norms.HeadwiseLayerNorm: (layout.LAYER_NORM, False),
    nn.LayerNorm: (layout.LAYER_NORM, False),
}


class NotNative(Exception):
    """The kernels do not compute this model; the message says why."""


def describe(model: LanguageModel) -> tuple[layout.ModelLayout, list[Tensor]]:
    """The structures, and the tensors to which they point. Raises `NotNative`."""
    return _Description(model).described


class _Description:
    """Collects the tensors while the structures are filled."""

    def __init__(self, model: LanguageModel) -> None:
        plain = type(model) is LanguageModel and type(model.trunk) is Decoder
        _require(plain and type(model.trunk.blocks) is nn.ModuleList, "it is no plain decoder")
        config, trunk = model.config, model.trunk
        self.tensors: list[Tensor] = []
        self.copies: list[Tensor] = []
        self.config = config
        _require(
            config.attention == "softmax"
            and config.d_embedding is None
            and type(model.transform) is nn.Identity
            and trunk.type_embedding is trunk.relative_bias is trunk.convolution is None
            and config.positions in ("rotary", "learned", "sinusoidal", "none"),
            "its architecture has parts that the kernels lack",
        )
        drops = config.dropout or config.attention_dropout or config.feed_forward_dropout
        _require(not (model.training and drops), "it is in training mode, with dropout")
        for module in model.modules():
            if module._forward_hooks or module._forward_pre_hooks:
                raise NotNative("a hook reads its vectors")
        layers = (layout.Layer * config.n_layers)()
        for layer, block in zip(layers, trunk.blocks, strict=True):
            self._fill_layer(layer, block)
        first: Any = trunk.blocks[0]
        block_type = BLOCKS[type(first)]
        if config.post_norm:
            block_type = layout.POST_NORM
        elif config.shared_norm:
            block_type = layout.PARALLEL_SHARED_NORM
        attention = first.attention
        described = layout.ModelLayout(
            n_layers=config.n_layers,
            d_model=config.d_model,
            n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            d_ff=config.d_ff,
            vocab_size=config.vocab_size,
            rotary_dim=config.rotary_dim or config.head_dim,
            block_type=block_type,
            activation=layout.ACTIVATIONS.index(config.activation),
            gated=config.gated,
            max_seq_len=config.max_seq_len,
            attention_scale=config.head_dim**-0.5 if attention.scale is None else attention.scale,
            attention_soft_cap=attention.soft_cap or 0.0,
            residual_scale=config.residual_scale,
            embedding_scale=config.embedding_scale,
            logit_scale=model.logit_scale,
            logit_soft_cap=model.logit_soft_cap or 0.0,
            embedding=self._embedding(trunk.token_embedding),
            head=self._linear(model.lm_head),
            embedding_norm=self._norm(trunk.embedding_norm),
            final_norm=self._norm(trunk.final_norm),
            layers=layers,
        )
        self._fill_positions(described, trunk)
        described.copies = self.copies  # addresses do not keep them alive
        self.described = described, self.tensors

    def _fill_layer(self, layer: layout.Layer, block: Any) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        _require(type(block) in BLOCKS and block.cross_attention is None, f"it has a {type(block).__name__}")
        _require(type(attention) in ATTENTION, f"it has a {type(attention).__name__}")
        _require(type(feed_forward) is FeedForward, f"it has a {type(feed_forward).__name__}")
        layer.attention_norm, layer.feed_forward_norm = (
            self._norm(norm) for norm in (block.attention_norm, block.feed_forward_norm)
        )
        if type(block) is OutputNormBlock:
            layer.attention_output_norm = self._norm(block.attention_output_norm)
            layer.feed_forward_output_norm = self._norm(block.feed_forward_output_norm)
        layer.query_norm, layer.key_norm = self._norm(attention.query_norm), self._norm(attention.key_norm)
        for name in ("query", "key", "value", "output"):
            setattr(layer, name, self._linear(getattr(attention, name)))
        for name in ("gate", "up", "down"):
            if getattr(feed_forward, name) is not None:
                setattr(layer, name, self._linear(getattr(feed_forward, name)))
        if isinstance(attention, SinkAttention):
            layer.sinks, layer.sinks_kind = self._vector(attention.sinks)
        layer.window = self.config.sliding_window if block.local and self.config.sliding_window else 0
        layer.rotation = block.rotation if self.config.positions == "rotary" else 2

    def _fill_positions(self, described: layout.ModelLayout, trunk: Any) -> None:
        positions = trunk.positions
        if self.config.positions == "rotary":
            local = trunk.local_positions or positions
            _require(
                type(positions) is type(local) is RotaryPositions, "its rotary tables change with the length"
            )
            described.cos, described.sin = self._table(positions.cos), self._table(positions.sin)
            described.local_cos, described.local_sin = self._table(local.cos), self._table(local.sin)
        elif positions is not None:
            _require(type(positions) in (LearnedPositions, SinusoidalPositions), "its positions are unknown")
            table = positions.weight if isinstance(positions, LearnedPositions) else positions.table
            described.positions, described.position_kind = self._vector(table)
            described.position_offset = positions.offset

    def _norm(self, norm: nn.Module) -> layout.Norm:
        if type(norm) is nn.Identity:
            return layout.Norm()
        _require(type(norm) in NORMS, f"it has a {type(norm).__name__}")
        found: Any = norm
        kind, plus_one = NORMS[type(norm)]
        described = layout.Norm(type=kind, eps=found.eps, plus_one=plus_one)
        if isinstance(norm, norms.WidthRMSNorm | norms.HeadwiseLayerNorm):
            described.shape = layout.NORM_SHAPES.index(
                "width" if isinstance(norm, norms.WidthRMSNorm) else "heads"
            )
        for name in ("weight", "bias"):
            tensor = getattr(norm, name, None)
            if tensor is not None:
                address, described.kind = self._vector(tensor)
                setattr(described, name, address)
        return described

    def _linear(self, module: nn.Module) -> layout.Weight:
        _require(type(module) in LINEAR, f"it has a {type(module).__name__}")
        found: Any = module
        described = self._matrix(found)
        if found.bias is not None:
            described.bias, described.bias_kind = self._vector(found.bias)
        return described

    def _embedding(self, module: nn.Module) -> layout.Weight:
        _require(type(module) in (nn.Embedding, QuantizedEmbedding), f"it has a {type(module).__name__}")
        plain = not isinstance(module, nn.Embedding) or (module.max_norm is None)
        _require(plain, "its embedding is renormalized")
        return self._matrix(module)

    def _matrix(self, module: Any) -> layout.Weight:
        if not isinstance(module, QuantizedWeight):
            address, kind = self._vector(module.weight)
            n_out, n_in = module.weight.shape
            return layout.Weight(kind=kind, n_out=n_out, n_in=n_in, data=address)
        _require(module.scheme.activation_bits is None, "its activations are quantized")
        n_out, n_in = module.shape
        return layout.Weight(
            kind=layout.INT8 if module.scheme.bits == 8 else layout.INT4,
            n_out=n_out,
            n_in=n_in,
            group=module.scheme.quant_group_size or 0,
            data=self._address(module.qweight),
            scales=self._address(module.scales),
            zeros=None if module.zeros is None else self._address(module.zeros),
        )

    def _vector(self, tensor: Tensor) -> tuple[c_void_p, int]:
        """Address and kind of plain numbers."""
        if tensor.dtype not in KINDS:
            raise NotNative(f"it has weights in {tensor.dtype}")
        return self._address(tensor), KINDS[tensor.dtype]

    def _table(self, tensor: Tensor) -> int:
        """A float32 table; `model.to(dtype)` casts its buffers, and then it is a copy."""
        table = tensor.float()
        if table is not tensor:
            self.copies.append(table)
        self._vector(tensor)
        return table.data_ptr()

    def _address(self, tensor: Tensor) -> Any:
        if not (tensor.is_contiguous() and tensor.device.type == "cpu"):
            raise NotNative("its weights are not contiguous, or on another device")
        self.tensors.append(tensor)
        return tensor.data_ptr()


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise NotNative(reason)
