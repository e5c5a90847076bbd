"""Preferences: rankings of answers to one prompt, best first. A pair of a chosen and a rejected answer is a ranking of
two.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PREFERENCE_SPLITS": "sets",
        "Ranking": "rankings",
        "iter_preferences": "sets",
        "prepare_preferences": "sets",
        "read_preferences": "readers",
    },
)

__all__ = ["PREFERENCE_SPLITS", "Ranking", "iter_preferences", "prepare_preferences", "read_preferences"]
