"""One training loop; a stage brings its loss and its batches. Runs that resume exactly, and a doctor that
looks before the first step.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MicroBatch": "micro_batches",
        "Objective": "micro_batches",
        "Optimizer": "optimizers.optimizer",
        "StepRecord": "loop",
        "TrainingConfig": "config",
        "TrainingInterrupted": "trainer",
        "TrainingPlan": "config",
        "Trainer": "trainer",
        "classification": "objectives",
        "contrastive": "objectives",
        "distribution_matching": "objectives",
        "masked_token": "objectives",
        "next_token": "objectives",
        "regression": "objectives",
        "resolve": "config",
        "resolve_examples": "config",
        "sequence_to_sequence": "objectives",
        "to_micro_batch": "micro_batches",
        "token_classification": "objectives",
        "train_steps": "loop",
        "validation_loss": "validation",
    },
)
__all__ = [
    "MicroBatch",
    "Objective",
    "Optimizer",
    "StepRecord",
    "TrainingConfig",
    "TrainingInterrupted",
    "TrainingPlan",
    "Trainer",
    "classification",
    "contrastive",
    "distribution_matching",
    "masked_token",
    "next_token",
    "regression",
    "resolve",
    "resolve_examples",
    "sequence_to_sequence",
    "to_micro_batch",
    "token_classification",
    "train_steps",
    "validation_loss",
]
