"""Settings of a red team's work. Imports no torch."""

from pydantic import Field

from parakit.common.settings import Config
from parakit.primer.attacks.attack import CATEGORIES

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
