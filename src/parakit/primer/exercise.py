"""What every skill draws: one question, its answer, how it is checked, and the combination that it stands
for.

A skill is a module of `skills/` with `NAME`, `LABELS` (its balanced classes, or none) and `draw(draws,
held_out)`. The same function serves training and suites; `held_out` says on which side of the keyed hash the
combination must lie.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exercise:
    """`combination` decides on which side the exercise lies; `label` is its class within the suite."""

    question: str
    answer: str
    combination: tuple[str, ...]
    system: str = ""
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    check: str = "exact"
    label: str = ""


def sentence(text: str) -> str:
    """`text` with a capital first letter and a full stop, unless it ends a sentence already."""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."
