"""Model folders on disk, in the Hugging Face layout. The only package that knows other libraries' names of settings and
tensors; nothing here executes code or unpickles. Reading a folder's settings never imports torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "load_model": "loading",
        "parameter_counts": "loading",
        "read_config": "loading",
        "read_head": "loading",
        "save_model": "model_folder",
    },
)

__all__ = [
    "load_model",
    "parameter_counts",
    "read_config",
    "read_head",
    "save_model",
]
