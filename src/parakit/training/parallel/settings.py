"""Settings of where a run is computed, and of what it keeps in memory. None changes more than the last bits of a result.
Imports no torch.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from parakit.common.settings import Config
from parakit.training.parallel.layout import parse_parallel

PLACES = (
    "parallel",
    "offload_optimizer",
    "in_parts",
)  # where a run is computed: changes nothing but the last bits


class PlacementSettings(Config):
    """How a run is spread over processes and memories."""

    parallel: str = Field(
        default="auto",
        description="In many processes (torchrun): auto (data parallel where the model fits, else sharded), or sizes"
        " such as shard=2,tensor=2 of data, shard, tensor and expert.",
    )
    offload_optimizer: bool = Field(
        default=False,
        description="In many processes: keep weights, gradients and moments in parts in the host's memory, where the"
        " optimizer then runs.",
    )
    in_parts: bool = Field(
        default=False,
        description="In many processes that share weights: the model is read, drawn, validated and written in parts, and no"
        " process ever holds all of it. Leaves out what needs it whole: the doctor, samples, comparisons.",
    )
    checkpoint_every: int = Field(
        default=1,
        ge=1,
        description="With gradient checkpointing: compute one block in so many again, and keep what the others computed;"
        " 1: all blocks.",
    )

    @field_validator("parallel", mode="before")
    @classmethod
    def _layout(cls, value: Any) -> Any:
        return parse_parallel(value)
