"""Whether two measured losses differ by more than noise: that of the evaluation set, and that of seeds.

The noise of the evaluation set is a paired bootstrap over blocks of the same text (`perplexity.blocks_of`): both models
find the same blocks hard, so the pairs vary far less than the losses. It says nothing of training: two runs that differ by
their seed alone differ too, and only further runs show by how much. Their interval is the one in which a further run of
the same setting falls in 95 % of cases, by Student's t (Hahn and Meeker 1991, section 4.7).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.intervals import percentiles, student_t

N_RESAMPLES = 2000
METRICS = {"bits per byte": "bits_per_byte", "nats per token": "loss_nats_per_token"}
"""The fields of a `LossResult` by the unit in which they are compared."""


@dataclass(frozen=True)
class LossDifference:
    """Second minus first in `unit`, with its 95 % interval over blocks of the text; `above_noise`: it excludes 0."""

    difference: float
    low: float
    high: float
    unit: str
    n_blocks: int
    p_value: float

    @property
    def metric(self) -> str:
        """The field of a `LossResult` that differs so."""
        return METRICS[self.unit]

    @property
    def above_noise(self) -> bool:
        """Whether the difference is more than the noise of the evaluation set."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class SeedSpread:
    """Where a further run of the same setting falls in 95 % of cases, from the values of runs that differ by their seed."""

    n: int
    mean: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether `value` is more than the noise of seeds away."""
        return not self.low <= value <= self.high


def loss_difference(
    first: Mapping[str, Any], second: Mapping[str, Any], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> LossDifference:
    """Compare two models' losses on one text: the fields of two `LossResult`s. `UserError` for different texts.

    In bits per byte, which compares models of any vocabulary; in nats per token where a part of the text was measured.
    """
    if first["text_digest"] != second["text_digest"] or len(first["block_nats"]) != len(second["block_nats"]):
        raise UserError("the two evaluations are of different texts", "evaluate both on the same files")
    weights = np.array(first["block_tokens"], float)
    in_bytes = first["bits_per_byte"] is not None and second["bits_per_byte"] is not None
    unit = "bits per byte" if in_bytes else "nats per token"
    key = METRICS[unit]
    # each model's nats, such that their sum over all blocks divided by that of `weights` is its figure
    scaled = [
        np.array(one["block_nats"]) * (one[key] * weights.sum() / sum(one["block_nats"]))
        for one in (first, second)
    ]
    by_block = scaled[1] - scaled[0]
    drawn = rng(seed, "loss_difference").integers(0, len(weights), (n_resamples, len(weights)))
    differences = by_block[drawn].sum(1) / np.maximum(weights[drawn].sum(1), 1)
    low, high = percentiles(differences)
    found, error = float(by_block.sum() / weights.sum()), float(differences.std())
    p_value = 2 * NormalDist().cdf(-abs(found) / error) if error else float(found == 0)
    return LossDifference(found, low, high, unit, int((weights > 0).sum()), p_value)


def compare_losses(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, LossDifference]:
    """Second minus first for every text in both; from the `loss` of two results.json."""
    differences = {}
    for name in [name for name in first if name in second]:
        try:
            differences[name] = loss_difference(first[name], second[name])
        except (KeyError, UserError) as error:
            why = error.message if isinstance(error, UserError) else f"the other evaluation has no {error}"
            raise UserError(
                f"loss on {name}: {why}", "evaluate both models on the same text, with this version"
            ) from None
    return differences


def seed_spread(values: Sequence[float]) -> SeedSpread | None:
    """The spread of runs that differ by their seed; None for fewer than two."""
    n = len(values)
    if n < 2:
        return None
    half = student_t(n - 1) * stdev(values) * math.sqrt(1 + 1 / n)
    return SeedSpread(n, mean(values), mean(values) - half, mean(values) + half)


def verdict(difference: LossDifference, spread: SeedSpread | None = None, value: float | None = None) -> str:
    """One line on a difference: how large, and above which noise."""
    line = (
        f"{difference.difference:+.4f} {difference.unit} (95 % {difference.low:+.4f} to {difference.high:+.4f}): "
        f"{'above' if difference.above_noise else 'within'} the noise of the evaluation set"
    )
    if spread is None or value is None:
        return line + "; the noise of seeds was not measured"
    return (
        f"{line}; {'above' if spread.excludes(value) else 'within'} the noise of seeds ({spread.n} runs: a further one "
        f"would fall between {spread.low:.4f} and {spread.high:.4f})"
    )
