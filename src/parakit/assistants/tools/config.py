"""Bounds of a tool's call. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from parakit.common.settings import Config


class ToolLimits(Config):
    """What a call may take, and how much of its result the model reads."""

    tool_timeout: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds after which a call is given up."
    )
    max_result_chars: int = Field(
        default=8000, ge=100, le=10_000_000, description="Characters of a result that the model reads."
    )
