"""What is read out of texts without writing any: hidden words, labels, scores, vectors."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Candidate": "fill_mask",
        "Classification": "classification",
        "MaskedPlace": "fill_mask",
        "classify": "classification",
        "embed": "embeddings",
        "fill_masks": "fill_mask",
        "regress": "classification",
        "tag": "classification",
    },
)

__all__ = [
    "Candidate",
    "Classification",
    "MaskedPlace",
    "classify",
    "embed",
    "fill_masks",
    "regress",
    "tag",
]
