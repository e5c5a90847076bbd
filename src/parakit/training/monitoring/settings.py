"""Settings of how a run is watched. None of them changes a step that is taken. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config

TrackerName = Literal["tensorboard", "trackio", "wandb"]


class MonitoringSettings(Config):
    """What is kept and measured of a run, and when it ends early."""

    keep_checkpoints: int = Field(
        default=2,
        ge=1,
        description="Checkpoints that are kept of a run, the newest; older ones are deleted when the next is complete.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="End the run after so many validations in a row without a lower loss. Default: never.",
    )
    final_weights: Literal["auto", "last", "best"] = Field(
        default="auto",
        description="Weights that the model is written with: of the last step, or of the validation with the lowest loss;"
        " auto: best with patience, else last.",
    )
    dynamics_every: int | None = Field(
        default=None,
        ge=1,
        description="Steps between measurements of the update-to-weight ratio and, where a batch has several parts, of the"
        " gradient noise scale. Default: never.",
    )
    tracker: TrackerName = Field(
        default="tensorboard",
        description="Where metrics go next to metrics.jsonl and the TensorBoard files: nowhere else (tensorboard), or to"
        " trackio or wandb, which are installed separately.",
    )

    @property
    def keeps_best(self) -> bool:
        """Whether the best weights are kept while the run trains."""
        return self.final_weights == "best" or (self.final_weights == "auto" and self.patience is not None)
