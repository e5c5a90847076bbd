"""Cleaning of a corpus: named steps in an order, each with a report of what it took away and ten samples of it."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CleaningChain": "chain",
        "CorpusStep": "corpus_steps",
        "Removed": "steps",
        "StepConfig": "step_config",
    },
)

__all__ = ["CleaningChain", "CorpusStep", "Removed", "StepConfig"]
