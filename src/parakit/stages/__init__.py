"""The stages that make a model: what is trained on what, under which plan, and what happens around the loop."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FinetuneJob": "jobs",
        "FromScratch": "jobs",
        "PretrainJob": "jobs",
        "ModelSpec": "plans",
        "finetune": "jobs",
        "pretrain": "jobs",
    },
)
__all__ = ["FinetuneJob", "FromScratch", "PretrainJob", "ModelSpec", "finetune", "pretrain"]
