"""Compression: smaller and faster models that keep what a larger one knows; and models merged into one."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "merge_adapter": "merging",
        "merge_adapter_folder": "merging",
        "merge_models": "merging",
    },
)

__all__ = ["merge_adapter", "merge_adapter_folder", "merge_models"]
