"""One training loop for every task. `train_steps` is the loop, `trainer.train` a whole run around it with checkpoints
that resume exactly, `tasks` the table of what can be trained, `doctor` the checks before the first step.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MicroBatch": "micro_batches",
        "Optimizer": "optimizers.optimizer",
        "Trainer": "trainer",
        "TrainingInterrupted": "trainer",
        "resolve": "config",
        "train_steps": "loop",
    },
)
__all__ = ["MicroBatch", "Optimizer", "Trainer", "TrainingInterrupted", "resolve", "train_steps"]
