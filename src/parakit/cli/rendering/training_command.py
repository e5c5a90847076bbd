"""How the verbs that train report what changed."""

from collections.abc import Mapping
from typing import Any


def against_before(figures: Mapping[str, Any], name: str = "loss") -> str:
    """What a trained model's figure `name` was before it went on, and what it has forgotten of earlier data, in words."""
    if (before := figures.get("before")) is None:
        return ""
    told = f" ({before[name]:.3f} before)"
    if "forgetting" in figures:
        now, then = figures["earlier_loss"], before["earlier_loss"]
        told += f"; earlier data: loss {now:.3f} ({then:.3f} before), forgetting {figures['forgetting']:+.3f} nats"
    return told
