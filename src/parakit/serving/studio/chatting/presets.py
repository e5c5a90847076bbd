"""Sampling settings of the chat page: their limits, presets, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.inference.config import SamplingConfig, SamplingSettings
from parakit.serving.studio.token_views.tokenization import reading_price

PRESETS: Mapping[str, dict[str, Any]] = {
    "Greedy": {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0},
    "Balanced": {"temperature": 0.7, "top_p": 0.95, "top_k": 0, "min_p": 0.0},
    "Creative": {"temperature": 1.2, "top_p": 1.0, "top_k": 0, "min_p": 0.05},
}
DEFAULT = "Balanced"


def sampling_from(values: Mapping[str, Any]) -> SamplingSettings:
    """The settings that the page's fields make, checked; an empty field is left out. `UserError` names one that is outside
    its limits.
    """
    given: Any = {name: value for name, value in values.items() if value is not None and value != ""}
    for name in ("top_k", "max_new_tokens", "seed"):
        if name in given:
            given[name] = int(given[name])
    SamplingConfig.parse(given, "sampling")
    settings: SamplingSettings = given
    return settings


def preset_of(values: Mapping[str, Any]) -> str | None:
    """The preset that these values are, if any."""
    return next(
        (
            name
            for name, preset in PRESETS.items()
            if all(values.get(key) == value for key, value in preset.items())
        ),
        None,
    )


def answer_price(n_prompt_tokens: int, n_tokens: int, price_list: str) -> float:
    """US dollars by a price list: what was read, and what was written."""
    return reading_price(n_prompt_tokens, price_list, n_tokens)[0]
