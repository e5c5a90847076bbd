"""How far a method came, from what was measured along its run: one account for all that learn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any


class Course:
    """Begun where a method begins, so that its seconds are the method's."""

    def __init__(self) -> None:
        self._processor, self._clock = time.process_time(), time.monotonic()

    def told(
        self, before: Mapping[str, Any], after: Mapping[str, Any], on_the_way: Sequence[Any]
    ) -> dict[str, Any]:
        """Points of divergence and reward, `before` the first of them, and the figures at the end."""
        return {
            "points": [(one["kl"], one["reward"]) for one in (before, *on_the_way)],
            "figures": {
                "gain_in_deviations": (after["reward"] - before["reward"]) / before["reward_std"],
                "reward_before": before["reward"],
                "reward": after["reward"],
                "kl": after["kl"],
                **self.seconds(),
            },
        }

    def seconds(self) -> dict[str, float]:
        """Of the processor and of the clock, until now."""
        return {
            "processor_seconds": time.process_time() - self._processor,
            "seconds": time.monotonic() - self._clock,
        }
