"""Products and whole forward passes on a CPU, in C++ that is compiled at first use; see `csrc/`."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "compile_ahead": "library",
        "load_kernels": "library",
        "load_training_kernels": "library",
        "quantized_linear": "linear",
        "read_bandwidth": "library",
    },
)

__all__ = ["compile_ahead", "load_kernels", "load_training_kernels", "quantized_linear", "read_bandwidth"]
