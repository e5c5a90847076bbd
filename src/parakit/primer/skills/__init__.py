"""The eight skills that the suites measure, and small talk. Each module draws exercises."""

from parakit.primer.skills import (
    agreement,
    arithmetic,
    audience,
    facts,
    reference,
    safety,
    sentiment,
    small_talk,
    translation,
)

__all__ = [
    "agreement",
    "arithmetic",
    "audience",
    "facts",
    "reference",
    "safety",
    "sentiment",
    "small_talk",
    "translation",
]
