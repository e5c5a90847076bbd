"""One training loop for every task. `loop.train_steps` is the loop, `trainer.train` a whole run around it with checkpoints
that resume exactly, `tasks` the table of what can be trained, `doctor` the checks before the first step.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Trainer": "trainer",
        "TrainingInterrupted": "trainer",
    },
)
__all__ = ["Trainer", "TrainingInterrupted"]
