"""The sentence with which training commands report the change from the model before."""

from collections.abc import Mapping
from typing import Any


def against_before(figures: Mapping[str, Any], name: str = "loss") -> str:
    """What a trained model's figure `name` was before the run, and how much it has forgotten of the replayed data."""
    if (before := figures.get("before")) is None:
        return ""
    text = f" ({before[name]:.3f} before)"
    if "forgetting" in figures:
        now, then = figures["earlier_loss"], before["earlier_loss"]
        text += f"; earlier data: loss {now:.3f} ({then:.3f} before), forgetting {figures['forgetting']:+.3f} nats"
    return text
