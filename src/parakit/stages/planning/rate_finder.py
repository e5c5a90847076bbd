"""The learning-rate range test (Smith 2017, "Cyclical learning rates", section 3.3): the loss while the rate grows.

Every step has a larger rate than the one before, by the same factor. The smoothed loss first stays, then falls, then rises and
diverges. Proposed is the rate at which it falls fastest, which is below the one with the lowest loss: the latter is at the edge
of divergence. It is a proposal for a start, from one short run, not the best rate of a long one.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_text_atomic
from parakit.common.progress import log, progress
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, draw_points
from parakit.stages.job import TrainingJob
from parakit.training.row_sources import RolloutSource
from parakit.training.trainer import Trainer

N_STEPS = 120
LEAST_FACTOR, GREATEST_FACTOR = 1e-3, 1e2  # of the rate that the run would have
SMOOTHING = 0.9
DIVERGED = 1.5  # times the lowest smoothed loss, and in nats above it where that is small


@dataclass(frozen=True)
class RateRange:
    """What the test found. `rates` and `losses` (smoothed) are those of each step."""

    rates: list[float]
    losses: list[float]
    planned: float
    """The rate of the plan."""

    @property
    def lowest(self) -> float:
        """The rate with the lowest loss."""
        return self.rates[min(range(len(self.losses)), key=lambda i: self.losses[i])]

    @property
    def proposed(self) -> float:
        """The rate at which the loss falls fastest, in a stretch of a tenth of the steps, below the lowest loss."""
        end = max(2, self.rates.index(self.lowest) + 1)
        width = max(1, len(self.rates) // 10)
        falls = {
            i: self.losses[i + width] - self.losses[i]
            for i in range(max(1, end - width))
            if i + width < len(self.losses)
        }
        if not falls:
            return self.lowest
        steepest = min(falls, key=lambda i: falls[i])
        return self.rates[steepest + width // 2]

    def to_dict(self) -> JsonObject:
        """Plain JSON values."""
        return {
            "learning_rate": self.proposed,
            "lowest_loss_at": self.lowest,
            "planned": self.planned,
            "rates": self.rates,
            "losses": self.losses,
        }

    def picture(self, title: str) -> str:
        """The loss against the rate, as SVG."""
        curve = [PlottedPoint(rate, loss) for rate, loss in zip(self.rates, self.losses, strict=True)]
        marked = {f"proposed {self.proposed:.2g}": self.proposed, f"planned {self.planned:.2g}": self.planned}
        marks = [
            Series(label, [PlottedPoint(rate, self.losses[self._index_of(rate)])])
            for label, rate in marked.items()
        ]
        return draw_points(
            PointPlot(title, "learning rate", "smoothed loss", [Series("loss", curve), *marks])
        )

    def _index_of(self, rate: float) -> int:
        return min(range(len(self.rates)), key=lambda i: abs(math.log(self.rates[i] / rate)))


def find_rate(job: TrainingJob, picture: Path, n_steps: int | None = None) -> RateRange:
    """Test rates on the model and the rows of `job`, and draw the result to `picture`. Nothing else is written."""
    n_steps = n_steps or N_STEPS
    with tempfile.TemporaryDirectory(prefix="parakit-rates-") as folder:
        run = job.prepare(Path(folder))
        setup, source = run.setup, run.setup.task.source
        if isinstance(source, RolloutSource):
            raise UserError(
                f"{setup.title}: the model samples its own rows, and their loss says nothing about a rate",
                "vary it instead: parakit build --vary learning_rate=...",
            )
        planned = setup.plan.learning_rate
        plan = setup.plan.replace(
            schedule="constant", warmup_steps=0, final_fraction=1.0, decay_fraction=1.0, batch_growth=1,
            max_steps=n_steps, compile="off", revisions=(),
        )  # fmt: skip
        trainer = Trainer(setup.model, source, setup.task.objective, plan, None)
        base, factors = trainer.optimizer.rates, _factors(n_steps)
        found = RateRange([], [], planned)
        smoothed = norm = 0.0
        with progress(f"{setup.title}: rates", n_steps) as bar:
            trainer.optimizer.rates = [rate * factors[0] for rate in base]
            for number, record in enumerate(trainer.steps()):
                if not math.isfinite(record.loss):
                    break
                smoothed = SMOOTHING * smoothed + (1 - SMOOTHING) * record.loss
                norm = SMOOTHING * norm + (1 - SMOOTHING)
                found.rates.append(planned * factors[number])
                found.losses.append(smoothed / norm)
                bar.advance(loss=f"{smoothed / norm:.3f}", rate=f"{found.rates[-1]:.2g}")
                low = min(found.losses)
                if record.skipped or found.losses[-1] > max(DIVERGED * low, low + DIVERGED):
                    break
                trainer.optimizer.rates = [rate * factors[min(number + 1, n_steps - 1)] for rate in base]
    write_text_atomic(picture, found.picture(f"{setup.title}: loss while the learning rate grows"))
    log(
        f"{setup.title}: the loss falls fastest at {found.proposed:.2g}, and is lowest at {found.lowest:.2g}: {picture}"
    )
    return found


def _factors(n_steps: int) -> list[float]:
    """Factors on the rates, in equal ratios."""
    ratio = GREATEST_FACTOR / LEAST_FACTOR
    return [LEAST_FACTOR * ratio ** (i / max(1, n_steps - 1)) for i in range(n_steps)]
