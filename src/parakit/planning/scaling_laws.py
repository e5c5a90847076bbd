"""Scaling laws fitted to one's own runs: L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2).

Fitted as in their approach 3: the Huber loss of the difference of logarithms, by L-BFGS from a grid of starts. Intervals
come from a bootstrap of the residuals: the runs keep their sizes and tokens, which were chosen, and draw the residual of
another run, enlarged by sqrt(n / (n - 5)) for the five fitted numbers. Also the single power laws of Kaplan et al. 2020.
N: parameters; D: tokens; C: operations; the loss in any unit that falls towards a limit. Imports no torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from parakit.common.errors import UserError
from parakit.planning.laws import LossLaw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

N_FITTED = 5
MIN_SIZES = MIN_LENGTHS = 3  # with fewer values on an axis, limit, constant and exponent are not determined
MIN_RUNS = N_FITTED + 1
HUBER_DELTA = 1e-3  # of a logarithm of the loss, as published
FLOPS_PER_PARAMETER_TOKEN = 6.0  # forward and backward (Kaplan et al. 2020, section 2.1)
# The grid of starts of Hoffmann et al., appendix D.3: logarithms of A, B and E, and the exponents.
_STARTS = (
    ((0.0, 5.0, 10.0, 15.0, 20.0, 25.0),) * 2
    + ((-1.0, -0.5, 0.0, 0.5, 1.0),)
    + ((0.0, 0.5, 1.0, 1.5, 2.0),) * 2
)
_BOUNDS = ((-14.0, None),) * 3 + ((1e-3, 4.0),) * 2  # around the means; no term vanishes, and losses fall
_N_REFINED = 12  # of the grid's starts, the best: L-BFGS from all 4,500 takes a minute and finds the same
_LEVEL = 0.95


@dataclass(frozen=True)
class ScalingRun:
    """A finished run. `flops` of its training; None: 6 N D."""

    parameters: float
    tokens: float
    loss: float
    flops: float | None = None

    @property
    def compute(self) -> float:
        """Operations of its training."""
        return FLOPS_PER_PARAMETER_TOKEN * self.parameters * self.tokens if self.flops is None else self.flops


@dataclass(frozen=True)
class ScalingLaw(LossLaw):
    """A law of one's own runs, in the form of the published ones; `loss_error` is 0 where it is not known."""

    loss_error: float = 0.0

    def optimal(
        self, flops: float, per_parameter_token: float = FLOPS_PER_PARAMETER_TOKEN
    ) -> tuple[float, float]:
        """The parameters and tokens with the least loss for so many operations, where a parameter takes
        `per_parameter_token` of them for each token. Of a law that the runs do not determine one of the two may be 1.
        """
        products = flops / per_parameter_token
        best = self.optimal_params(FLOPS_PER_PARAMETER_TOKEN * products)
        parameters = min(max(best, 1.0), products)
        return parameters, products / parameters

    @property
    def optimal_size_exponent(self) -> float:
        """How the best size grows with compute: N ~ C^a; the tokens grow as C^(1 - a)."""
        return self.data_exponent / (self.size_exponent + self.data_exponent)

    @property
    def compute_exponent(self) -> float:
        """How what is above E falls along the best split: C^-x."""
        return self.size_exponent * self.data_exponent / (self.size_exponent + self.data_exponent)


@dataclass(frozen=True)
class FittedValue:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingFit:
    """A law, the runs that it was fitted to, and laws of as many bootstrap samples. `residuals`: of the logarithms."""

    law: ScalingLaw
    runs: tuple[ScalingRun, ...]
    residuals: tuple[float, ...]
    samples: tuple[ScalingLaw, ...]

    def interval(self, name: str) -> FittedValue:
        """Of one of the law's numbers or exponents, by its name."""
        return _interval(getattr(self.law, name), [getattr(one, name) for one in self.samples])

    def predict(self, parameters: float, tokens: float) -> FittedValue:
        """The loss of a further run: the interval holds the law's uncertainty and the scatter of single runs."""
        logs = np.log([one.loss(parameters, tokens) for one in self.samples])
        scatter = np.asarray(_enlarged(self.residuals))
        draws = (logs[:, None] + scatter[None, :]).ravel()
        return _interval(self.law.loss(parameters, tokens), np.exp(draws))

    def optimal(
        self, flops: float, per_parameter_token: float = FLOPS_PER_PARAMETER_TOKEN
    ) -> tuple[FittedValue, FittedValue]:
        """The best parameters and tokens for so many operations, with intervals."""
        best = self.law.optimal(flops, per_parameter_token)
        found = [one.optimal(flops, per_parameter_token) for one in self.samples]
        return _interval(best[0], [n for n, _ in found]), _interval(best[1], [d for _, d in found])


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = coefficient / x^exponent (Kaplan et al. 2020, equations 1.1 to 1.3: (x_c / x)^exponent), without a limit."""

    exponent: FittedValue
    coefficient: float
    n_runs: int

    def loss(self, x: float) -> float:
        """At this many parameters, tokens or operations."""
        return float(self.coefficient / x**self.exponent.value)


def fit_law(runs: Sequence[ScalingRun]) -> ScalingLaw:
    """The law that fits the runs best. `UserError` where they are too few or their losses are no numbers."""
    check_runs(runs)
    return _fit(*_columns(runs), _grid())


def fit_with_bootstrap(runs: Sequence[ScalingRun], n_samples: int = 200, seed: int = 0) -> ScalingFit:
    """As `fit_law`, with `n_samples` laws of runs whose residuals are exchanged."""
    check_runs(runs)
    sizes, tokens, losses = _columns(runs)
    law = _fit(sizes, tokens, losses, _grid())
    fitted = np.log([law.loss(n, d) for n, d in zip(sizes, tokens, strict=True)])
    residuals = np.log(losses) - fitted
    scatter = np.asarray(_enlarged(residuals))
    generator = np.random.default_rng(seed)
    start = np.array([_vector(law)])
    samples = [
        _fit(sizes, tokens, np.exp(fitted + generator.choice(scatter, len(runs))), start)
        for _ in range(n_samples)
    ]
    return ScalingFit(law, tuple(runs), tuple(map(float, residuals)), tuple(samples))


def check_runs(runs: Sequence[ScalingRun]) -> None:
    """`UserError` for a loss that is none, and for fewer runs, sizes or lengths than the law has numbers for."""
    for run in runs:
        if not (math.isfinite(run.loss) and run.loss > 0):
            raise UserError(
                f"a run of {run.parameters:,.0f} parameters and {run.tokens:,.0f} tokens has the loss {run.loss}",
                "it diverged: repeat it with a lower learning rate, or leave it out",
            )
    n_sizes, n_lengths = len({run.parameters for run in runs}), len({run.tokens for run in runs})
    if n_sizes < MIN_SIZES or n_lengths < MIN_LENGTHS or len(runs) < MIN_RUNS:
        raise UserError(
            f"{len(runs)} runs of {n_sizes} sizes and {n_lengths} numbers of tokens do not determine a law",
            f"it takes {MIN_RUNS} runs at least, of {MIN_SIZES} sizes and {MIN_LENGTHS} numbers of tokens",
        )


def kaplan_exponents(runs: Sequence[ScalingRun]) -> dict[str, PowerLaw]:
    """`parameters`: of each size its run of most tokens; `tokens`: of each length the best loss; `compute`: of the runs that
    no cheaper one beats. An axis of fewer than three such runs is left out.
    """
    by_size = {run.parameters: run for run in sorted(runs, key=lambda run: run.tokens)}
    by_tokens = {run.tokens: run for run in sorted(runs, key=lambda run: -run.loss)}
    axes = {
        "parameters": [(run.parameters, run.loss) for run in by_size.values()],
        "tokens": [(run.tokens, run.loss) for run in by_tokens.values()],
        "compute": [(run.compute, run.loss) for run in frontier(runs)],
    }
    return {name: power_law(points) for name, points in axes.items() if len(points) >= 3}


def frontier(runs: Sequence[ScalingRun]) -> list[ScalingRun]:
    """The runs that no cheaper one beats, by compute."""
    best: list[ScalingRun] = []
    for run in sorted(runs, key=lambda run: (run.compute, run.loss)):
        if not best or run.loss < best[-1].loss:
            best.append(run)
    return best


def power_law(points: Sequence[tuple[float, float]]) -> PowerLaw:
    """A line through the logarithms of (x, loss), three at least, with Student's interval of its slope."""
    x, y = np.log(np.asarray(points, dtype=np.float64)).T
    slope, intercept = np.polyfit(x, y, 1)
    squares = float(((y - slope * x - intercept) ** 2).sum())
    error = math.sqrt(squares / (len(x) - 2) / float(((x - x.mean()) ** 2).sum()))
    half = _student(len(x) - 2) * error
    exponent = -float(slope)
    return PowerLaw(FittedValue(exponent, exponent - half, exponent + half), math.exp(intercept), len(x))


def _scipy(module: str) -> Any:
    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError:
        raise UserError(
            "scipy is not installed, with which scaling laws are fitted", "pip install 'parakit[plan]'"
        ) from None


def _student(degrees: int) -> float:
    stdtrit = _scipy("special").stdtrit
    return float(stdtrit(degrees, 0.5 + _LEVEL / 2))


def _columns(runs: Sequence[ScalingRun]) -> tuple[Array, Array, Array]:
    rows = np.array([(run.parameters, run.tokens, run.loss) for run in runs], dtype=np.float64)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _grid() -> Array:
    return np.stack(np.meshgrid(*_STARTS, indexing="ij"), axis=-1).reshape(-1, N_FITTED)


def _vector(law: ScalingLaw) -> list[float]:
    return [
        math.log(law.size_factor),
        math.log(law.data_factor),
        math.log(law.irreducible),
        law.size_exponent,
        law.data_exponent,
    ]


def _fit(sizes: Array, tokens: Array, losses: Array, starts: Array) -> ScalingLaw:
    """From the best of the starts, (S, 5) rows of log A, log B, log E, alpha and beta."""
    minimize = _scipy("optimize").minimize
    # Axes around their means: A and alpha are then nearly independent, and L-BFGS takes tens of steps instead of thousands.
    centres = np.log(sizes).mean(), np.log(tokens).mean()
    log_n, log_d, target = np.log(sizes) - centres[0], np.log(tokens) - centres[1], np.log(losses)
    moved = starts.copy()
    moved[:, 0] -= moved[:, 3] * centres[0]
    moved[:, 1] -= moved[:, 4] * centres[1]
    order = np.argsort(_huber(_predicted(moved, log_n, log_d) - target).sum(axis=1), kind="stable")
    found: Any = None
    for start in moved[order[:_N_REFINED]]:
        one = minimize(
            *(_objective, start, (log_n, log_d, target)),
            jac=True,
            method="L-BFGS-B",
            bounds=_BOUNDS,
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9},
        )
        if found is None or one.fun < found.fun:
            found = one
    log_a, log_b, log_e, by_size, by_tokens = map(float, found.x)
    return ScalingLaw(
        name="own runs",
        irreducible=math.exp(log_e),
        size_factor=math.exp(log_a + by_size * centres[0]),
        data_factor=math.exp(log_b + by_tokens * centres[1]),
        size_exponent=by_size,
        data_exponent=by_tokens,
        n_range=_ends(sizes),
        d_range=_ends(tokens),
    )


def _ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _objective(vector: Array, log_n: Array, log_d: Array, target: Array) -> tuple[float, Array]:
    """The Huber loss in units of its delta squared, and its gradient."""
    terms = _terms(vector[None, :], log_n, log_d)[:, 0]  # (3, runs)
    predicted = np.logaddexp.reduce(terms, axis=0)
    error = predicted - target
    slope = np.clip(error / HUBER_DELTA, -1, 1) / HUBER_DELTA  # of the loss, by each prediction
    by_term = np.exp(terms - predicted) * slope
    by_exponent = -(by_term[0] * log_n).sum(), -(by_term[1] * log_d).sum()
    return float(_huber(error).sum()), np.array([*by_term.sum(axis=1), *by_exponent])


def _predicted(vectors: Array, log_n: Array, log_d: Array) -> Array:
    """The logarithm of the loss of every run, by each of the vectors."""
    found: Array = np.logaddexp.reduce(_terms(vectors, log_n, log_d), axis=0)
    return found


def _terms(vectors: Array, log_n: Array, log_d: Array) -> Array:
    """The logarithms of the law's three terms: (3, vectors, runs)."""
    log_a, log_b, log_e, by_n, by_d = vectors.T[:, :, None]
    return np.stack([log_a - by_n * log_n, log_b - by_d * log_d, log_e + np.zeros_like(by_n * log_n)])


def _huber(error: Array) -> Array:
    size = np.abs(error) / HUBER_DELTA
    value: Array = np.where(size <= 1, size**2 / 2, size - 0.5)
    return value


def _enlarged(residuals: Sequence[float] | Array) -> list[float]:
    """Centred residuals, as large as those of runs that the law was not fitted to."""
    centred = np.asarray(residuals) - np.mean(residuals)
    n = len(centred)
    return list(map(float, centred * math.sqrt(n / max(1, n - N_FITTED))))


def _interval(value: float, draws: Sequence[float] | Array) -> FittedValue:
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return FittedValue(float(value), float(min(low, value)), float(max(high, value)))
