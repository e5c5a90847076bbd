"""Settings of a red team's work. Imports no torch."""

from pydantic import Field, field_validator

from parakit.alignment.red_team.attacks import CATEGORIES
from parakit.common.settings import Config, nearest

RULES = "rules"


class RedTeamConfig(Config):
    """What a model is attacked with, and who judges."""

    suites: tuple[str, ...] = Field(
        default=CATEGORIES, description=f"Built-in suites of the primer's world: {', '.join(CATEGORIES)}."
    )
    attacks: tuple[str, ...] = Field(
        default=(),
        description="Files of attacks: JSON lines, CSV, or AdvBench's tables; in place of the suites.",
    )
    judge: str = Field(
        default=RULES, description="rules, or a model that judges: a folder, or the URL of a chat endpoint."
    )
    judge_model: str | None = Field(
        default=None, description="The judge's name at its URL; none: the first that it lists."
    )
    n_attacks: int = Field(default=100, ge=2, le=2_000, description="Attacks of each built-in suite.")
    seed: int = Field(default=0, ge=0, description="Decides which attacks are drawn.")
    max_new_tokens: int = Field(default=80, ge=1, description="Longest answer in tokens.")

    @field_validator("suites")
    @classmethod
    def _known(cls, suites: tuple[str, ...]) -> tuple[str, ...]:
        for name in suites:
            if name not in CATEGORIES:
                close = nearest(name, CATEGORIES)
                meant = f"did you mean {close!r}?" if close else f"suites are {', '.join(CATEGORIES)}"
                raise ValueError(f"{name!r} is no suite; {meant}")
        return tuple(dict.fromkeys(suites))
