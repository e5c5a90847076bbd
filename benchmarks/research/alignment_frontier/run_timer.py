"""How far a method came and how long it took: the same record for all methods that train."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any


class RunTimer:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._processor, self._clock = time.process_time(), time.monotonic()

    def result(
        self, before: Mapping[str, Any], after: Mapping[str, Any], during: Sequence[Any]
    ) -> dict[str, Any]:
        """Points of divergence and reward, `before` the first of them, and the figures at the end."""
        return {
            "points": [(one["kl"], one["reward"]) for one in (before, *during)],
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
