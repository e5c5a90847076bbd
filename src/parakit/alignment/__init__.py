"""Alignment: making a model do what people want. Rewards learned from what people prefer, and policies that follow them."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"AlignConfig": "config"})

__all__ = ["AlignConfig"]
