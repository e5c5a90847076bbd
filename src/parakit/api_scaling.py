"""`parakit.scale`: a family of small models, a scaling law of their losses, and predictions of larger runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.presets import parse_size
from parakit.recipe.builder import load_recipe, recipe_for_text
from parakit.recipe.config import parse_time
from parakit.recipe.sweeps.grid import Seeds
from parakit.recipe.sweeps.plan import Sweep
from parakit.recipe.sweeps.scaling import chosen_family, fit_builds

Amount = int | str
"""A number, or one with k, m or b: "200k"."""


def scale(
    recipe: str | Path | None = None,
    *,
    out: str | Path,
    text: Sequence[str | Path] = (),
    sizes: Sequence[Amount] = (),
    tokens: Sequence[Amount] = (),
    time: str | None = None,
    seeds: Seeds | None = None,
    predict: Sequence[tuple[Amount, Amount]] = (),
    runs: Sequence[str | Path] = (),
    parallel: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> JsonObject:
    """Train the pre-training of a recipe (or of `text`) at each of `sizes` (parameters) and `tokens`, fit L(N, D) to the
    losses, and predict the `predict`ed runs, (parameters, tokens); returns what `out`/law/law.json holds, with the runs that
    `failed`.

    `time` ("30min") chooses the sizes and tokens that are not given; `seeds`: of each run, how many or which; `runs`: folders
    of further builds of the same data, or without a recipe the only ones; `settings`: of the recipe, by dotted key. A call
    that was interrupted resumes when it is repeated. Raises `UserError` for fewer runs than a law takes, for runs that
    diverged, and for builds of other data.
    """
    if recipe is not None and text:
        raise UserError("both a recipe and text were given", "name the text in the recipe, under text.paths")
    wanted = [(float(parse_size(str(n))), float(parse_size(str(d)))) for n, d in predict]
    folder, sweep = Path(out), None
    if recipe is not None or text:
        sweep = _family(recipe, folder, text, sizes, tokens, time, seeds, settings or {})
    elif given := [
        name
        for name, value in (("sizes", sizes), ("tokens", tokens), ("time", time), ("seeds", seeds))
        if value
    ]:
        raise UserError(f"{given[0]} is given, and nothing is trained", "name a recipe or text")
    elif not runs:
        raise UserError("nothing to fit a law to", "name a recipe, text, or builds with runs")
    report, failed = fit_builds(folder, sweep, list(map(Path, runs)), wanted, parallel)
    return report.to_dict() | {"failed": failed}


def _family(
    recipe: str | Path | None,
    folder: Path,
    text: Sequence[str | Path],
    sizes: Sequence[Amount],
    tokens: Sequence[Amount],
    time: str | None,
    seeds: Seeds | None,
    settings: Mapping[str, Any],
) -> Sweep:
    found = (
        recipe_for_text([str(path) for path in text], settings)
        if recipe is None
        else load_recipe(recipe, settings)
    )
    return chosen_family(
        found,
        folder,
        tuple(map(str, sizes)),
        tuple(parse_size(str(one)) for one in tokens),
        None if time is None else parse_time(time),
        seeds,
    )
