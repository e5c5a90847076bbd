"""Figures of merit, one subject a file; numpy only, but for what sacrebleu and rouge-score define."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "accuracy": "classes",
        "bleu": "translations",
        "chrf": "translations",
        "f1": "classes",
        "matthews": "classes",
        "pearson": "correlation",
        "retrieval_ranks": "retrieval",
        "rouge": "translations",
        "spearman": "correlation",
    },
)

__all__ = [
    "accuracy",
    "bleu",
    "chrf",
    "f1",
    "matthews",
    "pearson",
    "retrieval_ranks",
    "rouge",
    "spearman",
]
