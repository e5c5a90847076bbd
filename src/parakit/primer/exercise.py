"""An exercise: one question, its answer, how an answer is graded, and the combination that it tests.

A skill is a module of `skills/` with `NAME`, `LABELS` (its balanced classes, or none) and `draw(random, held_out)`,
which serves training and suites alike; `held_out` selects the side of the keyed hash.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exercise:
    """`combination` decides whether the exercise is held out; `label` is its class within the suite."""

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
