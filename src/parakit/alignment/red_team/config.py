"""Settings of red teaming. Imports no torch."""

from pydantic import Field

from parakit.common.settings import Config
from parakit.primer.attacks.attack import CATEGORIES

RULES = "rules"


class RedTeamConfig(Config):
    """The attacks and the judge."""

    suites: tuple[str, ...] = Field(
        default=CATEGORIES, description=f"Built-in suites of the primer's world: {', '.join(CATEGORIES)}."
    )
    attacks: tuple[str, ...] = Field(
        default=(),
        description="Files of attacks: JSON lines, CSV, or AdvBench's tables; instead of the suites.",
    )
    judge: str = Field(
        default=RULES,
        description="rules, or a chat model as judge: a model folder or the URL of a chat endpoint.",
    )
    judge_model: str | None = Field(
        default=None,
        description="Name of the judge at its URL. Default: the first model that the endpoint lists.",
    )
    n_attacks: int = Field(default=100, ge=2, le=2_000, description="Attacks per built-in suite.")
    seed: int = Field(default=0, ge=0, description="Seed of the built-in suites.")
    max_new_tokens: int = Field(default=80, ge=1, description="Length limit of an answer in tokens.")
