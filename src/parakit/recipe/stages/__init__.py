"""The stages of a recipe: which there are, and what each does with its parents' folders."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"WORK": "chain", "stages_of": "chain"})
__all__ = ["WORK", "stages_of"]
