"""Adapters on disk, in the format of the peft library: a small folder that names the base model it was trained on."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base_folder": "base_model",
        "is_adapter_folder": "base_model",
        "load_adapter": "folder",
        "load_with_adapter": "folder",
        "require_full_model": "base_model",
        "save_adapter": "folder",
    },
)

__all__ = [
    "base_folder",
    "is_adapter_folder",
    "load_adapter",
    "load_with_adapter",
    "require_full_model",
    "save_adapter",
]
