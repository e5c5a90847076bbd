"""What a run will need before it starts. Knows shapes and counts only; nothing is built."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"choose_size": "time"})

__all__ = ["choose_size"]
