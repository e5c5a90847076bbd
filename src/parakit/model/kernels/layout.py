"""The structures of `csrc/types.h` and `csrc/model.h`, for ctypes: what each field is, is written there."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_void_p

NONE, FP32, BF16, FP16, INT8, INT4 = range(6)  # `Kind`
PRE_NORM, POST_NORM, PARALLEL, PARALLEL_SHARED_NORM = range(4)  # `BlockType`
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu", "squared_relu")  # `Activation`
NO_NORM, RMS_NORM, LAYER_NORM = range(3)
NORM_SHAPES = ("head", "heads", "width")


class Weight(ctypes.Structure):
    """A matrix (n_out, n_in), plain or quantized."""

    _fields_ = (
        ("kind", c_int32),
        ("n_out", c_int32),
        ("n_in", c_int32),
        ("group", c_int32),
        ("data", c_void_p),
        ("scales", c_void_p),
        ("zeros", c_void_p),
        ("bias", c_void_p),
        ("bias_kind", c_int32),
        ("padding", c_int32),
    )


class Norm(ctypes.Structure):
    """RMSNorm or LayerNorm."""

    _fields_ = (
        ("type", c_int32),
        ("kind", c_int32),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("eps", c_float),
        ("plus_one", c_int32),
        ("shape", c_int32),
        ("padding", c_int32),
    )


class Layer(ctypes.Structure):
    """One block."""

    _fields_ = (
        ("attention_norm", Norm),
        ("attention_output_norm", Norm),
        ("feed_forward_norm", Norm),
        ("feed_forward_output_norm", Norm),
        ("query_norm", Norm),
        ("key_norm", Norm),
        ("query", Weight),
        ("key", Weight),
        ("value", Weight),
        ("output", Weight),
        ("gate", Weight),
        ("up", Weight),
        ("down", Weight),
        ("sinks", c_void_p),
        ("sinks_kind", c_int32),
        ("window", c_int32),
        ("rotation", c_int32),
        ("padding", c_int32),
    )


class ModelLayout(ctypes.Structure):
    """A whole decoder."""

    _fields_ = (
        ("n_layers", c_int32),
        ("d_model", c_int32),
        ("n_heads", c_int32),
        ("n_kv_heads", c_int32),
        ("head_dim", c_int32),
        ("d_ff", c_int32),
        ("vocab_size", c_int32),
        ("rotary_dim", c_int32),
        ("block_type", c_int32),
        ("activation", c_int32),
        ("gated", c_int32),
        ("position_kind", c_int32),
        ("position_offset", c_int32),
        ("max_seq_len", c_int32),
        ("attention_scale", c_float),
        ("attention_soft_cap", c_float),
        ("residual_scale", c_float),
        ("embedding_scale", c_float),
        ("logit_scale", c_float),
        ("logit_soft_cap", c_float),
        ("embedding", Weight),
        ("head", Weight),
        ("embedding_norm", Norm),
        ("final_norm", Norm),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("local_cos", c_void_p),
        ("local_sin", c_void_p),
        ("positions", c_void_p),
        ("layers", ctypes.POINTER(Layer)),
    )


class LayerCache(ctypes.Structure):
    """Keys, values and page table of one layer."""

    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        ("key_scales", c_void_p),
        ("value_scales", c_void_p),
        ("page_table", c_void_p),
    )


class CacheLayout(ctypes.Structure):
    """The keys and values of all layers."""

    _fields_ = (
        ("kind", c_int32),
        ("page_size", c_int32),
        ("pages_per_row", c_int32),
        ("n_pages", c_int32),
        ("layers", ctypes.POINTER(LayerCache)),
    )


class BatchLayout(ctypes.Structure):
    """New tokens, and where their logits go."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("n_logits", c_int32),
        ("token_ids", c_void_p),
        ("positions", c_void_p),
        ("rows", c_void_p),
        ("logits_of", c_void_p),
        ("logits", c_void_p),
        ("hidden", c_void_p),
    )


STRUCTURES = (Weight, Norm, Layer, ModelLayout, LayerCache, CacheLayout, BatchLayout)
