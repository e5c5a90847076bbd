"""A fitted scaling law as a file, so that a later build can be compared with what it predicts. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_json_atomic
from parakit.planning.laws import ExpectedLoss
from parakit.planning.scaling_laws import ScalingFit, ScalingLaw, ScalingRun

FOLDER, FIT = "law", "fit.json"


@dataclass(frozen=True)
class StoredLaw:
    """`data`: what all of its runs share, by name (digests of the tokenizer and the shards, the family, the loss's unit): a
    run that differs in any of it does not belong to the law.
    """

    name: str
    fit: ScalingFit
    loss_unit: str
    data: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """To `folder`/fit.json."""
        fit = {
            "law": asdict(self.fit.law),
            "runs": [asdict(run) for run in self.fit.runs],
            "residuals": self.fit.residuals,
            "samples": [asdict(one) for one in self.fit.samples],
        }
        row = {"name": self.name, "loss_unit": self.loss_unit, "data": dict(self.data), **fit}
        write_json_atomic(folder / FIT, row)

    def expected(self, parameters: float, tokens: float) -> ExpectedLoss:
        """What the law predicts for a run, in `loss_unit`."""
        found = self.fit.predict(parameters, tokens)
        covers = self.fit.law.covers(parameters, tokens)
        words = f"the law of {len(self.fit.runs)} runs in {self.name}"
        return ExpectedLoss(found.value, found.low, found.high, words, not covers)

    def was_fitted_to(self, parameters: float, tokens: float, loss: float) -> bool:
        """Whether this run is one of those that the law comes from, so that it predicts nothing of it."""
        return any(
            (run.parameters, run.tokens, run.loss) == (parameters, tokens, loss) for run in self.fit.runs
        )


def find_law(folder: str | Path) -> Path:
    """The file of the law in a folder that `parakit scale` wrote. `UserError` where there is none."""
    for path in (Path(folder) / FOLDER / FIT, Path(folder) / FIT):
        if path.is_file():
            return path
    raise UserError(f"{folder}: holds no scaling law", "name the --output of `parakit scale`, which fits one")


def read_law(folder: str | Path) -> StoredLaw:
    """The law in a folder that `parakit scale` wrote. `UserError` where there is none, or a file that is damaged."""
    path = find_law(folder)
    try:
        row = read_json(path, dict[str, Any])
        fit = ScalingFit(
            _law(row["law"]),
            tuple(ScalingRun(**run) for run in row["runs"]),
            tuple(row["residuals"]),
            tuple(map(_law, row["samples"])),
        )
        return StoredLaw(str(folder), fit, row["loss_unit"], row["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is no scaling law: {error}", "repeat `parakit scale`, which writes it again"
        ) from None


def _law(values: JsonObject) -> ScalingLaw:
    ranges = {name: tuple(values[name]) for name in ("n_range", "d_range")}
    return ScalingLaw(**{**values, **ranges})
