"""The report of a scaling law: its numbers with intervals, how well it predicts, what it predicts, pictures and a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.formatting import compact, number, percent
from parakit.evaluation.family import family_scores
from parakit.planning.scaling_laws import (
    MIN_LENGTHS,
    MIN_RUNS,
    MIN_SIZES,
    FittedValue,
    PowerLaw,
    ScalingFit,
    ScalingRun,
    fit_with_bootstrap,
    kaplan_exponents,
)
from parakit.planning.stored_law import StoredLaw
from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, draw_points, geometry
from parakit.reports.rendering import page_template
from parakit.reports.sweeps.family import write_family_pictures

PAGE, RESULTS, SCORES = "report.html", "law.json", "scores.svg"
EVALUATION = Path("evaluate", "models", "base")  # in a build
LARGER = (1, 10, 100)  # times the compute of the largest run, for the best splits
FAR = 100  # times the compute of the largest run, from which on a prediction is a guess
NUMBERS = {
    "irreducible": "E, the limit",
    "size_factor": "A",
    "data_factor": "B",
    "size_exponent": "alpha, exponent of parameters",
    "data_exponent": "beta, exponent of tokens",
    "optimal_size_exponent": "exponent of the best size, N ~ C^a",
    "compute_exponent": "exponent of compute, of what is above E",
}
AXES = {
    "parameters": "L(N), most tokens",
    "tokens": "L(D), best size",
    "compute": "L(C), no cheaper run is better",
}


@dataclass(frozen=True)
class FamilyRun:
    """A build of the family. `seconds`: of training; `train_tokens`: of the training split, None where unknown; `data`: what
    it shares with the others (`planning/stored_law.py`).
    """

    folder: Path
    seed: int
    run: ScalingRun
    loss_unit: str
    bits_per_byte: float | None = None
    seconds: float | None = None
    train_tokens: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """A run that was not trained, or not fitted to: `measured` is its loss where it is known."""

    parameters: float
    tokens: float
    flops: float
    loss: FittedValue
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """The predicted loss over the measured one, minus one."""
        return None if self.measured is None else self.loss.value / self.measured - 1


@dataclass(frozen=True)
class LawReport:
    """A law of a family. `per_parameter_token`: operations of the largest model for each parameter and token; `check`: the
    run of the most compute, by the law of all others; None where too few would remain.
    """

    name: str
    runs: Sequence[FamilyRun]
    fit: ScalingFit
    kaplan: dict[str, PowerLaw]
    per_parameter_token: float
    check: Prediction | None
    best: Sequence[tuple[FittedValue, FittedValue, Prediction]]
    predictions: Sequence[Prediction]

    def to_dict(self) -> JsonObject:
        """As plain data."""
        return {
            "name": self.name,
            "loss_unit": self.runs[0].loss_unit,
            "law": {name: asdict(self.fit.interval(name)) for name in NUMBERS},
            "kaplan": {name: asdict(one) for name, one in self.kaplan.items()},
            "operations_per_parameter_and_token": self.per_parameter_token,
            "largest_residual": max(map(abs, self.fit.residuals)),
            "check": _plain(self.check) if self.check else None,
            "best": [
                {"parameters": asdict(n), "tokens": asdict(d), **_plain(one)} for n, d, one in self.best
            ],
            "predictions": [_plain(one) for one in self.predictions],
            "runs": [
                {
                    **asdict(one.run),
                    "flops": one.run.compute,
                    "fitted": self.fit.law.loss(one.run.parameters, one.run.tokens),
                    **{"seed": one.seed, "bits_per_byte": one.bits_per_byte, "seconds": one.seconds},
                    "folder": str(one.folder),
                }
                for one in self.runs
            ],
            "notes": notes(self),
        }


def fit_family(
    name: str, runs: Sequence[FamilyRun], wanted: Sequence[tuple[float, float]] = (), n_samples: int = 200
) -> LawReport:
    """Fit the law to these runs and predict the `wanted` ones, (parameters, tokens). `UserError` where a run's loss is none,
    or where they are too few.
    """
    for one in runs:
        if not one.run.loss > 0 or one.run.loss == float("inf"):
            raise UserError(
                f"{one.folder}: its loss is {one.run.loss}: the run diverged",
                "repeat it with a lower learning rate, or leave it out",
            )
    points = [one.run for one in runs]
    fit = fit_with_bootstrap(points, n_samples)
    largest = max(points, key=lambda run: run.compute)
    ratio = largest.compute / (largest.parameters * largest.tokens)
    best = []
    for times in LARGER:
        n, d = fit.optimal(times * largest.compute, ratio)
        best.append((n, d, _predict(fit, n.value, d.value, ratio)))
    predictions = [_predict(fit, n, d, ratio) for n, d in wanted]
    check = _check(points, largest, n_samples)
    return LawReport(name, list(runs), fit, kaplan_exponents(points), ratio, check, best, predictions)


def _predict(fit: ScalingFit, parameters: float, tokens: float, ratio: float) -> Prediction:
    return Prediction(parameters, tokens, ratio * parameters * tokens, fit.predict(parameters, tokens))


def _check(points: Sequence[ScalingRun], largest: ScalingRun, n_samples: int) -> Prediction | None:
    same = (largest.parameters, largest.tokens)
    others = [run for run in points if (run.parameters, run.tokens) != same]
    n_sizes, n_lengths = len({run.parameters for run in others}), len({run.tokens for run in others})
    if len(others) < MIN_RUNS or n_sizes < MIN_SIZES or n_lengths < MIN_LENGTHS:
        return None
    measured = statistics.fmean(run.loss for run in points if (run.parameters, run.tokens) == same)
    loss = fit_with_bootstrap(others, n_samples).predict(*same)
    return Prediction(*same, largest.compute, loss, measured)


def notes(report: LawReport) -> list[str]:
    """What a reader has to know before the numbers are trusted."""
    found = []
    largest = max(one.run.compute for one in report.runs)
    if far := [one for one in report.predictions if one.flops > FAR * largest]:
        found.append(
            f"{compact(far[0].parameters)} parameters and {compact(far[0].tokens)} tokens are"
            f" {far[0].flops / largest:,.0f} times the compute of the largest run: the interval does not hold what changes"
            " so far away"
        )
    split = max((one.train_tokens or 0 for one in report.runs), default=0)
    longest = max(one.run.tokens for one in report.runs)
    if split and longest > split:
        found.append(
            f"the longest run reads the training text {longest / split:.1f} times: repeated text teaches less than new"
            " text, which the law does not know (Muennighoff et al. 2023)"
        )
    for name, law in (
        ("parameters", report.fit.law.size_exponent),
        ("tokens", report.fit.law.data_exponent),
    ):
        if not 0.01 < law < 2:
            found.append(
                f"the exponent of {name} is {law:.3g}: the runs do not determine it; take values further apart"
            )
    if report.fit.law.irreducible < 0.01 * min(one.run.loss for one in report.runs):
        found.append("the runs do not determine the limit E: they are too small, or too alike, to show it")
    if len(report.runs) < 9:
        found.append(f"{len(report.runs)} runs are few: the intervals are wide, and rough")
    return found


def tables(report: LawReport) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heading and rows of each table."""
    unit = report.runs[0].loss_unit
    law = [[words, *_numbers(report.fit.interval(name))] for name, words in NUMBERS.items()]
    kaplan = [[AXES[name], *_numbers(one.exponent), str(one.n_runs)] for name, one in report.kaplan.items()]
    runs = [
        [
            *(
                compact(one.run.parameters),
                compact(one.run.tokens),
                f"{one.run.compute:.2e}",
                f"{one.run.loss:.4f}",
            ),
            f"{report.fit.law.loss(one.run.parameters, one.run.tokens):.4f}",
            f"{100 * residual:+.2f} %",
        ]
        for one, residual in zip(report.runs, report.fit.residuals, strict=True)
    ]
    found = [
        ("The law", ["number", "value", "95 % interval"], law),
        ("Single power laws", ["loss falls as x^-exponent", "exponent", "95 % interval", "runs"], kaplan),
        (
            "The best split of more compute",
            ["operations", "parameters", "tokens", "loss", "95 % interval"],
            [
                [f"{one.flops:.2e}", _between(n), _between(d), *_numbers(one.loss, 4)]
                for n, d, one in report.best
            ],
        ),
        (f"Runs ({unit})", ["parameters", "tokens", "operations", "loss", "law", "above the law"], runs),
    ]
    if report.predictions:
        rows = [
            [compact(one.parameters), compact(one.tokens), f"{one.flops:.2e}", *_numbers(one.loss, 4)]
            for one in report.predictions
        ]
        found.insert(
            0, ("Predictions", ["parameters", "tokens", "operations", "loss", "95 % interval"], rows)
        )
    return [table for table in found if table[2]]


def check_sentence(report: LawReport) -> str:
    """How well the law of the other runs predicts the largest; empty where they are too few."""
    one = report.check
    if one is None or one.error is None or one.measured is None:
        return ""
    inside = "inside" if one.loss.low <= one.measured <= one.loss.high else "outside"
    return (
        f"fitted without the largest run, the law predicts it {percent(abs(one.error))} too"
        f" {'high' if one.error > 0 else 'low'}: {one.loss.value:.4f} ({one.loss.low:.4f} to {one.loss.high:.4f}), measured"
        f" {one.measured:.4f}, {inside} the interval"
    )


def pictures(report: LawReport) -> dict[str, PointPlot]:
    """By file name: the loss against compute with the law's best splits, and against parameters with the law's lines."""
    by_size: dict[float, list[ScalingRun]] = {}
    by_tokens: dict[float, list[ScalingRun]] = {}
    for one in report.runs:
        by_size.setdefault(one.run.parameters, []).append(one.run)
        by_tokens.setdefault(one.run.tokens, []).append(one.run)
    compute = [
        Series(f"{compact(size)} parameters", [PlottedPoint(run.compute, run.loss) for run in runs])
        for size, runs in sorted(by_size.items())
    ]
    best = [PlottedPoint(one.flops, one.loss.value, one.loss.low, one.loss.high) for _, _, one in report.best]
    unit, law = report.runs[0].loss_unit, report.fit.law
    sizes = sorted(by_size)
    lines = []
    for tokens, runs in sorted(by_tokens.items()):
        lines.append(
            Series(f"{compact(tokens)} tokens", [PlottedPoint(run.parameters, run.loss) for run in runs])
        )
    fitted = [
        Series(
            f"law, {compact(tokens)} tokens", [PlottedPoint(size, law.loss(size, tokens)) for size in sizes]
        )
        for tokens in (min(by_tokens), max(by_tokens))
    ]
    return {
        "loss-by-compute.svg": PointPlot(
            f"{report.name}: loss by compute",
            "operations of training",
            unit,
            [*compute[-7:], Series("law, best split", best)],
        ),
        "loss-by-parameters.svg": PointPlot(
            f"{report.name}: loss by parameters", "parameters", unit, [*lines[-6:], *fitted]
        ),
    }


def write_law_report(report: LawReport, folder: Path) -> Path:
    """Write the page, the pictures, the tables in Markdown, all figures and the law itself as JSON; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures(report)
    write_json_atomic(folder / RESULTS, report.to_dict())
    first = report.runs[0]
    StoredLaw(report.name, report.fit, first.loss_unit, first.data).write(folder)
    for name, plot in drawn.items():
        write_text_atomic(folder / name, draw_points(plot))
    parts = [f"# {report.name}", *notes(report), check_sentence(report)]
    for title, heading, rows in tables(report):
        lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
        parts.append(f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    write_text_atomic(folder / "law.md", "\n\n".join(filter(None, parts)) + "\n")
    page = page_template("law.html").render(
        name=report.name,
        notes=[*notes(report), *filter(None, [check_sentence(report)])],
        tables=tables(report),
        pictures=[*map(geometry, drawn.values())],
        few_shot=_draw_scores(report, folder / SCORES),
        results=RESULTS,
    )
    write_text_atomic(folder / PAGE, page)
    return folder / PAGE


def _draw_scores(report: LawReport, path: Path) -> list[str]:
    """What `parakit show --family` draws of each size's longest run: scores against parameters, where the recipe measures
    some; the pictures' names.
    """
    longest = {one.run.parameters: one.folder for one in sorted(report.runs, key=lambda one: one.run.tokens)}
    folders = [folder / EVALUATION for folder in longest.values() if (folder / EVALUATION).is_dir()]
    try:
        scores = family_scores(folders)
    except UserError:  # no suites and no tasks, or at one size only
        return []
    return [file.name for file in write_family_pictures(scores, path)]


def _plain(one: Prediction) -> JsonObject:
    return asdict(one) | ({} if one.error is None else {"error": one.error})


def _numbers(found: FittedValue, digits: int = 3) -> list[str]:
    write = (lambda value: f"{value:.{digits}f}") if digits > 3 else (lambda value: number(value, 3))
    return [write(found.value), f"{write(found.low)} to {write(found.high)}"]


def _between(found: FittedValue) -> str:
    return f"{compact(found.value)} ({compact(found.low)} to {compact(found.high)})"
