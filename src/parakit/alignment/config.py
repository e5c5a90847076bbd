"""Settings of alignment: one group for all methods, each of which reads its part. Imports no torch.

`READ_BY` says which method reads what; a setting that the chosen method never looks at is an error.
"""

from typing import Literal

from pydantic import Field

from parakit.training.config import TrainingConfig

Method = Literal["reward", "dpo", "ppo", "grpo", "best_of_n", "constitution"]


class AlignConfig(TrainingConfig):
    """How to align. None means: the method's own default."""

    kl_coef: float | None = Field(
        default=None, ge=0, description="strength of the leash to the reference; dpo, ppo, grpo"
    )


# The settings above that a method reads; each line is its method's own.
READ_BY: dict[Method, frozenset[str]] = {
    "reward": frozenset(),
    "dpo": frozenset({"kl_coef"}),
    "ppo": frozenset({"kl_coef"}),
    "grpo": frozenset({"kl_coef"}),
    "best_of_n": frozenset(),
    "constitution": frozenset({"kl_coef"}),
}
