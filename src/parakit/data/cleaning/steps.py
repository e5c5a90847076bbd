"""What a cleaning step on one text is: a pure, deterministic function, so that documents may be cleaned in any order and
by any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removed:
    """A document is left out. `reason` is one of a few that are counted, such as "fewer than 50 words"."""

    reason: str


TextStep = Callable[[str], str | Removed]
"""Takes the text of a document and gives it cleaned, equal, or `Removed`; never raises, whatever the text."""
