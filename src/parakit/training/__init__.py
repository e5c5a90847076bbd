"""One training loop; a stage brings its loss and its batches. Runs that resume exactly, and a doctor that
looks before the first step.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MicroBatch": "objectives",
        "Optimizer": "optimizers",
        "StepRecord": "loop",
        "TrainingConfig": "config",
        "TrainingInterrupted": "session",
        "TrainingPlan": "config",
        "TrainingSession": "session",
        "next_token": "objectives",
        "resolve": "config",
        "train_steps": "loop",
    },
)
__all__ = [
    "MicroBatch",
    "Optimizer",
    "StepRecord",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingPlan",
    "TrainingSession",
    "next_token",
    "resolve",
    "train_steps",
]
