"""Adapters on disk, in the format of the peft library: a small folder beside the base that it was tuned on."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base_folder": "base_model",
        "is_adapter_folder": "base_model",
        "load_adapted": "folder",
        "load_adapter": "folder",
        "require_whole": "base_model",
        "save_adapter": "folder",
    },
)

__all__ = [
    "base_folder",
    "is_adapter_folder",
    "load_adapted",
    "load_adapter",
    "require_whole",
    "save_adapter",
]
