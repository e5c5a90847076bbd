"""What is read out of texts without writing any: hidden words, labels, scores, vectors."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Candidate": "fill_mask",
        "Classification": "classification",
        "MaskedPosition": "fill_mask",
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
    "MaskedPosition",
    "classify",
    "embed",
    "fill_masks",
    "regress",
    "tag",
]
