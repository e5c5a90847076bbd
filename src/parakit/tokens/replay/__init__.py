"""Rows of what was learned before, mixed into the rows of what is learned now."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"ReplayedSource": "sources"})

__all__ = ["ReplayedSource"]
