"""Merging: an adapter into its base, several models of one shape into one, and the checkpoints of a run into their mean."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "merge_adapter": "adapters",
        "merge_adapter_folder": "adapters",
        "merge_checked": "adapters",
        "merge_checkpoints": "run_checkpoints",
        "merge_models": "models",
        "merge_tensors": "methods",
    },
)

__all__ = [
    "merge_adapter",
    "merge_adapter_folder",
    "merge_checked",
    "merge_checkpoints",
    "merge_models",
    "merge_tensors",
]
