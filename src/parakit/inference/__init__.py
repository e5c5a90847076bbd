"""Inference: generation, chat, predictions, and `Model`, which the Python API and the commands use.

Names are imported on first use, so settings cost no torch.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BeamConfig": "config",
        "SamplingConfig": "config",
        "classify": "prediction.classification",
        "embed": "prediction.embeddings",
        "fill_masks": "prediction.fill_mask",
        "generate_batch": "generation.text",
        "regress": "prediction.classification",
        "translate": "generation.seq_to_seq",
    },
)

__all__ = [
    "BeamConfig",
    "SamplingConfig",
    "classify",
    "embed",
    "fill_masks",
    "generate_batch",
    "regress",
    "translate",
]
