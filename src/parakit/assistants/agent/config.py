"""Limits of an agent's run. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from parakit.assistants.tools.config import ToolLimits


class AgentConfig(ToolLimits):
    """When a run ends although the model has not answered, and how its turns are drawn."""

    max_steps: int = Field(default=10, ge=1, le=1000, description="Turns of the model for one task.")
    max_tokens: int = Field(default=8192, ge=1, description="Tokens that the model generates for one task.")
    max_seconds: float = Field(
        default=600.0, gt=0, description="Seconds for one task, tools and confirmations included."
    )
    max_repeats: int = Field(
        default=2,
        ge=1,
        description="How often the same call may give the same result; one more ends the run.",
    )
    max_calls: int = Field(default=16, ge=1, le=256, description="Calls of one turn; others are refused.")
    parallel: bool = Field(default=True, description="Whether a turn may have several calls.")
    max_new_tokens: int = Field(default=512, ge=1, description="Tokens of one turn.")
    temperature: float = Field(default=0.0, ge=0, le=2, description="Randomness of the turns; 0 is greedy.")
    seed: int = Field(default=0, description="Seed of the turns, where the temperature is not 0.")
