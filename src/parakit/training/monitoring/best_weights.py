"""The weights of the validation with the lowest loss, kept next to the checkpoints; and when a run ends early.

`best.json` lists every validation, the folder `best` has the weights of the best one. Both are a pure function of the steps
taken: a run that resumes at an earlier step forgets the validations after it, and comes to them again.
"""

from __future__ import annotations

import math
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from parakit.checkpoints.safetensors_io import write_tensors
from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_checked_json, write_checked_json
from parakit.common.processes import is_first
from parakit.common.progress import log
from parakit.training.monitoring.settings import MonitoringSettings

BEST, VALIDATIONS = "best", "best.json"


class BestWeights:
    """The validations of a run in `folder`, which has taken `first_step` steps. Keeps weights only where the settings say
    so.
    """

    def __init__(self, folder: Path | None, settings: MonitoringSettings, first_step: int = 0) -> None:
        self.settings, self.folder = settings, folder
        self.is_active = folder is not None and (settings.keeps_best or settings.patience is not None)
        self.validations: list[tuple[int, JsonObject]] = []
        if self.is_active and first_step and folder is not None and (folder / VALIDATIONS).is_file():
            rows = read_checked_json(folder / VALIDATIONS, "delete it: the validations so far are forgotten")
            self.validations = [(step, figures) for step, figures in rows if step <= first_step]

    def has(self, step: int) -> bool:
        """Whether the validation after `step` steps is known."""
        return any(known == step for known, _ in self.validations)

    @property
    def best(self) -> tuple[int, JsonObject] | None:
        """Step and figures of the validation with the lowest loss, the first of equal ones; None before any."""
        finite = [(step, figures) for step, figures in self.validations if math.isfinite(figures["loss"])]
        return min(finite, key=lambda row: row[1]["loss"], default=None)

    @property
    def is_over(self) -> bool:
        """Whether the last `patience` validations were no better than one before."""
        patience, best = self.settings.patience, self.best
        if patience is None or best is None:
            return False
        return sum(step > best[0] for step, _ in self.validations) >= patience

    def keeps(self, step: int, figures: JsonObject) -> bool:
        """Whether the weights after `step` are kept, with these figures."""
        if not self.is_active or self.has(step):
            return False
        if "loss" not in figures:
            raise UserError(
                "patience and final_weights: best follow the validation loss, which this method does not have",
                "remove them; a method with rewards ends by max_steps or kl_limit",
            )
        best = self.best
        is_better = math.isfinite(figures["loss"]) and (best is None or figures["loss"] < best[1]["loss"])
        return self.settings.keeps_best and is_better

    def keep(self, step: int, figures: JsonObject, tensors: dict[str, Tensor]) -> None:
        """Write the weights of the best validation, in the first process."""
        assert self.folder is not None
        lineage = Lineage("best_weights", result={"step": step, "loss": figures["loss"]})
        with writing_artifact(self.folder / BEST, lineage, overwrite=True) as inside:
            write_tensors(tensors, inside / "weights.safetensors")

    def record(self, step: int, figures: JsonObject) -> None:
        """Add a validation, in every process."""
        if not self.is_active or self.has(step):
            return
        self.validations.append((step, figures))
        if self.folder is not None and is_first():
            write_checked_json(self.folder / VALIDATIONS, [list(row) for row in self.validations])

    def restore(self, model: nn.Module, last_step: int) -> tuple[int, JsonObject] | None:
        """Put the best weights into `model`; returns their step and figures, or None where the last weights stay: they are
        the best, or the settings say so.
        """
        best = self.best
        if not self.settings.keeps_best or self.folder is None or best is None or best[0] == last_step:
            return None
        kept = open_artifact(self.folder / BEST, "best_weights")
        if kept.lineage["result"]["step"] != best[0]:
            log(f"the weights of step {best[0]} are not kept any more: those of step {last_step} are written")
            return None
        model.load_state_dict(load_file(kept.path / "weights.safetensors"), strict=False)
        log(f"the weights of step {best[0]} are written: validation loss {best[1]['loss']:.4f}")
        return best
