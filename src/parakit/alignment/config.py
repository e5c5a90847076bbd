"""Settings of alignment: one group for all methods, each of which reads its part. Imports no torch.

`READ_BY` says which method reads what; a setting that the chosen method never looks at is an error.
"""

from typing import Literal

from pydantic import Field

from parakit.training.config import TrainingConfig

Method = Literal["reward", "dpo", "ppo", "grpo", "best_of_n", "constitution"]
PreferenceLoss = Literal["dpo", "ipo", "simpo"]


class AlignConfig(TrainingConfig):
    """How to align. None means: the method's own default."""

    kl_coef: float | None = Field(
        default=None, ge=0, description="strength of the leash to the reference; dpo, ppo, grpo"
    )
    # --- learning from preferences: reward, dpo
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="reward, dpo: in every block; None: the model's own"
    )
    preference_loss: PreferenceLoss = Field(
        default="dpo", description="dpo: ipo asks for a fixed lead, simpo needs no reference"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="dpo: share of the preferences taken to be wrong"
    )
    margin: float = Field(
        default=0.0, description="reward, dpo: by how much, in units of reward, the better should lead"
    )
    row_margins: bool = Field(default=False, description="reward, dpo: add the data's own margins to it")
    centre_coef: float = Field(
        default=0.01, ge=0, description="reward: how strongly rewards are kept around zero"
    )

    # --- constitution
    principles: str | None = Field(
        default=None, description="constitution: a YAML file of principles; none: the primer's"
    )
    critic: str | None = Field(
        default=None,
        description="constitution: a model folder or a chat endpoint's URL; none: the model itself",
    )
    critic_model: str | None = Field(
        default=None, description="constitution: the critic's name at its URL; none: the first that it lists"
    )
    attacks: str | None = Field(
        default=None, description="constitution: a file of questions to revise answers to; none: the primer's"
    )
    n_attacks: int | None = Field(
        default=None, ge=1, description="constitution: the primer's questions of each category; none: 300"
    )
    n_rounds: int | None = Field(
        default=None, ge=1, description="constitution: critiques of an answer; none: one for each principle"
    )
    n_lessons: int | None = Field(
        default=None,
        ge=0,
        description="constitution: the primer's lessons in criticism to begin with; none: 0",
    )
    helpful_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="constitution: of the conversations to tune on, from the data; none: 0.75",
    )
    n_preferences: int | None = Field(
        default=None,
        ge=0,
        description="constitution: questions answered twice and compared, for dpo; none: 0",
    )
    max_nonsense: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="constitution: share of critiques that may be nonsense; none: 0.5",
    )


# The settings above that a method reads; each line is its method's own.
READ_BY: dict[Method, frozenset[str]] = {
    "reward": frozenset({"dropout", "margin", "row_margins", "centre_coef"}),
    "dpo": frozenset({"dropout", "kl_coef", "preference_loss", "label_smoothing", "margin", "row_margins"}),
    "ppo": frozenset({"kl_coef"}),
    "grpo": frozenset({"kl_coef"}),
    "best_of_n": frozenset(),
    "constitution": frozenset(
        {"kl_coef", "principles", "critic", "critic_model", "attacks", "n_attacks", "n_rounds", "n_lessons"}
        | {"helpful_share", "n_preferences", "max_nonsense"}
    ),
}
