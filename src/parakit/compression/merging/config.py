"""Settings of merging models: one class a method. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from parakit.common.settings import Config

Weights = Annotated[
    tuple[float, ...], Field(description="One weight a model, in their order. Default: equal.")
]


class LinearMerge(Config):
    """The weighted mean of the models ("model soups", Wortsman et al. 2022). Weights are scaled to sum to 1."""

    method: Literal["linear"] = "linear"
    weights: Weights = ()


class SlerpMerge(Config):
    """Two models along the great circle between them, tensor by tensor (Shoemake 1985): the length of the result is
    between those two, where a mean of different directions is shorter.
    """

    method: Literal["slerp"] = "slerp"
    t: float = Field(
        default=0.5, ge=0, le=1, description="Position between the first model (0) and the second (1)."
    )


class _OnABase(Config):
    """Models that were tuned from one base, by what each has changed: its task vector."""

    weights: Weights = ()
    scale: float = Field(
        default=1.0, gt=0, le=100, description="What the merged task vector is multiplied by."
    )


class TaskArithmeticMerge(_OnABase):
    """The base plus the weighted sum of the task vectors (Ilharco et al. 2023); a negative weight unlearns."""

    method: Literal["task_arithmetic"] = "task_arithmetic"


class TiesMerge(_OnABase):
    """Trim, elect signs, merge (Yadav et al. 2023): of each task vector the largest values stay; for each parameter the
    sign with the greater sum is taken, and the mean of the values with that sign.
    """

    method: Literal["ties"] = "ties"
    density: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of each task vector's values that stays, the largest, by tensor.",
    )


class DareMerge(_OnABase):
    """Drop and rescale (Yu et al. 2023): of each task vector a random share stays, divided by that share; then the
    weighted sum, or the election of signs as in TIES.
    """

    method: Literal["dare"] = "dare"
    density: float = Field(
        default=0.5, gt=0, le=1, description="Share of each task vector's values that stays."
    )
    elect_signs: bool = Field(
        default=False, description="Elect signs as TIES does, instead of the plain sum."
    )
    seed: int = Field(default=0, ge=0, description="Seed of what is dropped.")


MergeMethod = LinearMerge | SlerpMerge | TaskArithmeticMerge | TiesMerge | DareMerge
METHODS: dict[str, type[MergeMethod]] = {
    "linear": LinearMerge,
    "slerp": SlerpMerge,
    "task_arithmetic": TaskArithmeticMerge,
    "ties": TiesMerge,
    "dare": DareMerge,
}
