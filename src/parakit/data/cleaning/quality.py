"""Rules of published corpora that leave out documents of poor quality, each by its name and with its published threshold.

- `gopher`: Rae et al. 2021 (arXiv:2112.11446), section A.1: length, length of words, symbols, bullets, ellipses, words with
  letters, English stop words; `gopher_repetition`: its table A1.
- `c4`: Raffel et al. 2020 (arXiv:1910.10683), section 2.2: removes lines, and documents of fewer than five sentences.
- `fineweb`: Penedo et al. 2024 (arXiv:2406.17557), section 3.6.

Where a paper leaves a detail open, it is that of datatrove (https://github.com/huggingface/datatrove), whose decisions the
tests compare. The thresholds were chosen for English pages of the web: of other text see the samples first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.cleaning.line_rules import C4_RULES, C4Lines
from parakit.data.cleaning.quality_rules import RULES, Rule, TextFacts
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed, TextStep

RuleSet = Literal["gopher", "gopher_repetition", "c4", "fineweb"]


def thresholds() -> dict[str, float]:
    """Every rule with its published threshold, as `gopher.min_words`."""
    return {f"{name}.{rule.name}": rule.threshold for name, rules in RULES.items() for rule in rules} | {
        f"c4.{name}": value for name, value in C4_RULES.items()
    }


class QualityConfig(StepConfig):
    """The published rules of Gopher, C4 and FineWeb."""

    step: Literal["quality"] = "quality"
    rules: tuple[RuleSet, ...] = Field(
        default=("gopher", "gopher_repetition", "fineweb"),
        min_length=1,
        description="Sets of rules: gopher, gopher_repetition, c4 (which removes lines, too), fineweb.",
    )
    disabled: tuple[str, ...] = Field(
        default=(), description="Rules that are not applied, by name, such as 'gopher.min_stop_words'."
    )
    thresholds: dict[str, float] = Field(
        default={}, description="Thresholds other than the published ones, such as {gopher.min_words: 20}."
    )

    @model_validator(mode="after")
    def _known_rules(self) -> Self:
        known = thresholds()
        for name in (*self.disabled, *self.thresholds):
            if name not in known:
                close = closest_match(name, known)
                raise UserError(
                    f"{name!r} is no quality rule",
                    f"did you mean {close}?" if close else f"the rules are {', '.join(known)}",
                )
            if name.partition(".")[0] not in self.rules:
                raise UserError(
                    f"{name!r} is set but has no effect: rules has no {name.partition('.')[0]}",
                    f"add {name.partition('.')[0]} to rules, or remove it",
                )
        return self

    def build(self, folder: Path) -> TextStep:
        limits = thresholds() | self.thresholds
        chosen = [
            (rule, limits[f"{name}.{rule.name}"], f"{name}.{rule.name}")
            for name in self.rules
            for rule in RULES.get(name, ())
            if f"{name}.{rule.name}" not in self.disabled
        ]
        lines = None
        if "c4" in self.rules:
            lines = C4Lines(
                {name: limits[f"c4.{name}"] for name in C4_RULES if f"c4.{name}" not in self.disabled}
            )

        def judge(text: str) -> str | Removed:
            failed = next(_failed(TextFacts(text), chosen), None)
            if failed:
                return Removed(failed)
            return lines(text) if lines else text

        return judge


def _failed(facts: TextFacts, rules: list[tuple[Rule, float, str]]) -> Iterator[str]:
    for rule, limit, name in rules:
        if rule.fails(facts, limit):
            yield name
