"""What temperature makes of the next token's distribution.

The engine gives the log-probabilities of the likeliest tokens, up to a thousand. Temperature T raises probabilities to the
power 1/T and normalizes; 0 takes the likeliest. What is beyond the thousand is left out, and how much that is at T = 1 is
reported: `covered`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TEMPERATURES = (0.0, 0.7, 1.2)
N_READ, N_SHOWN = 1000, 8


@dataclass(frozen=True)
class NextTokenView:
    """The likeliest tokens, and the probability of each at every temperature."""

    tokens: tuple[str, ...]
    temperatures: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...]
    """By temperature, then by token."""
    covered: float
    """Probability, at temperature 1, of all tokens that were read."""


def at_temperature(log_probabilities: Sequence[float], temperature: float) -> list[float]:
    """Probabilities of these tokens under a temperature, normalized over them; the first likeliest gets all at 0."""
    if not log_probabilities:
        return []
    if temperature == 0:
        best = max(range(len(log_probabilities)), key=log_probabilities.__getitem__)
        return [float(i == best) for i in range(len(log_probabilities))]
    highest = max(log_probabilities)
    weights = [math.exp((one - highest) / temperature) for one in log_probabilities]
    total = sum(weights)
    return [weight / total for weight in weights]


def next_token_view(
    tokens: Sequence[tuple[str, float]],
    temperatures: Sequence[float] = TEMPERATURES,
    n_shown: int = N_SHOWN,
) -> NextTokenView:
    """Of tokens with their log-probabilities, likeliest first."""
    logs = [log for _, log in tokens]
    rows = [at_temperature(logs, temperature)[:n_shown] for temperature in temperatures]
    covered = min(1.0, sum(math.exp(log) for log in logs))
    texts = tuple(text for text, _ in tokens[:n_shown])
    return NextTokenView(texts, tuple(temperatures), tuple(map(tuple, rows)), covered)
