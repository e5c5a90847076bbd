"""Quantized weights as module swaps: int8 and int4 matrices with scales, which kernels read in place.

`quantize_modules(model, make_plan(model, QuantScheme(bits=4, quant_group_size=32)))` swaps the modules of a plain model; a
method that computes codes and scales of its own passes them as `tensors` (`QuantizedTensor` by module name).
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "QuantScheme": "scheme",
        "QuantizedEmbedding": "layers",
        "QuantizedLinear": "layers",
        "QuantizedTensor": "rounding",
        "QuantizedWeight": "layers",
        "dequantize": "rounding",
        "dequantize_modules": "swapping",
        "is_quantized": "swapping",
        "make_plan": "swapping",
        "quantizable": "swapping",
        "quantize_modules": "swapping",
        "quantize_tensor": "rounding",
        "quantized_modules": "swapping",
        "tied_heads": "swapping",
        "weight_like": "layers",
    },
)

__all__ = [
    "QuantScheme",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedTensor",
    "QuantizedWeight",
    "dequantize",
    "dequantize_modules",
    "is_quantized",
    "make_plan",
    "quantizable",
    "quantize_modules",
    "quantize_tensor",
    "quantized_modules",
    "tied_heads",
    "weight_like",
]
