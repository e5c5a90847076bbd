"""Contamination of a whole evaluation: all of its benchmarks and suites, searched in one pass over the text."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from parakit.common.artifacts import LINEAGE, Artifact, Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic, write_text_atomic
from parakit.common.progress import OnProgress, log
from parakit.evaluation.comparison.folders import suite_result
from parakit.evaluation.contamination.figures import TextSearch, describe_contamination, find_contamination
from parakit.evaluation.contamination.texts import LINEAGE_TEXTS, TrainingTexts, gather_texts
from parakit.evaluation.results import (
    ITEMS,
    RESULTS,
    BenchmarkResult,
    open_evaluation,
    plain_benchmarks,
    read_benchmarks,
)

MAX_LISTED = 100
NONE = "none"


def texts_to_search(model: str | Path, names: Sequence[str]) -> TrainingTexts | None:
    """The texts of `names` (files, folders, artifacts, `lineage`); nothing named is `lineage`, and None is of `none`."""
    names = tuple(names) or (LINEAGE_TEXTS,)
    if NONE in names:
        if len(names) > 1:
            others = ", ".join(name for name in names if name != NONE)
            raise UserError(f"contamination is {NONE}, and {others}", "name texts, or none")
        return None
    return gather_texts(model, names)


def add_contamination(
    results: JsonObject,
    texts: TrainingTexts,
    advance: OnProgress | None = None,
    *,
    search: TextSearch | None = None,
    strict: bool = False,
) -> JsonObject:
    """The results of `evaluate_model` with `contamination` at each benchmark and suite. `search`: one for the same items that
    may have read some of the texts. `strict`: a text that cannot be read is a `UserError`, else it is among the unknown ones.
    """
    items = _searched_results(results)
    if not items:
        return results
    for reason in texts.unknown:
        log(f"contamination: not searched: {reason}")
    found = find_contamination(items, texts, advance, search, strict=strict)
    return results | {
        "benchmarks": {name: found[f"benchmarks/{name}"] for name in results.get("benchmarks") or {}},
        "suites": {
            name: suite | {"contamination": found[f"suites/{name}"].contamination}
            for name, suite in (results.get("suites") or {}).items()
        },
    }


def contamination_by_model(
    results: Mapping[str, JsonObject], texts: Mapping[str, TrainingTexts]
) -> dict[str, JsonObject]:
    """`add_contamination` for the results of models on the same items, each after those that it was made from, so that each
    text is read once. A model without `texts` is not searched.
    """
    every = {name: one.items for found in results.values() for name, one in _searched_results(found).items()}
    search = TextSearch(every)
    return {
        model: add_contamination(found, texts[model], search=search) if model in texts else found
        for model, found in results.items()
    }


def _searched_results(results: JsonObject) -> dict[str, BenchmarkResult]:
    """Benchmarks and suites, whose names may be the same, with their items."""
    benchmarks: dict[str, BenchmarkResult] = results.get("benchmarks") or {}
    suites = (results.get("suites") or {}).items()
    return {f"benchmarks/{name}": one for name, one in benchmarks.items()} | {
        f"suites/{name}": suite_result(name, suite["samples"], suite["prompting"]) for name, suite in suites
    }


def without_further_items(contamination: JsonObject | None) -> JsonObject | None:
    """The figures with the first `MAX_LISTED` of the touched items."""
    if contamination is None or "touched" not in contamination:
        return contamination
    return contamination | {"touched": dict(islice(contamination["touched"].items(), MAX_LISTED))}


def search_evaluation(
    path: str | Path,
    names: Sequence[str] = (),
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    make_card: Callable[[JsonObject], str] | None = None,
    advance: OnProgress | None = None,
) -> JsonObject:
    """Search the texts `names` (by default what the evaluated model was trained on) for the items of an evaluation folder;
    returns its results with `contamination`. `output`: an evaluation folder to write, with the same items; it may be
    `path` itself, with `overwrite`; `make_card`: its README.md from the results. `UserError` for an evaluation without items.
    """
    artifact, results = open_evaluation(path, "its figures are in the report")
    if not (results.get("benchmarks") or results.get("suites")):
        raise UserError(
            f"{path}: holds no benchmark or suite whose items could be searched",
            "evaluate with --tasks or --suites",
        )
    texts = texts_to_search(results["model"]["path"], names)
    if texts is None:
        raise UserError("contamination is none: nothing is left to do", "name texts, or remove it")
    results |= {"benchmarks": read_benchmarks(artifact.path, results)}
    results = add_contamination(results, texts, advance, strict=True)
    plain = results | {"benchmarks": plain_benchmarks(results["benchmarks"])}
    if output is not None:
        with writing_artifact(output, _lineage(artifact, names, output, plain), overwrite) as folder:
            if (artifact.path / ITEMS).is_dir():
                shutil.copytree(artifact.path / ITEMS, folder / ITEMS)
            if make_card is not None:
                write_text_atomic(folder / "README.md", make_card(plain))
            write_json_atomic(folder / RESULTS, plain)
    return plain


def _lineage(artifact: Artifact, names: Sequence[str], output: str | Path, results: JsonObject) -> Lineage:
    """That of the evaluation, with the texts that were searched; its parents are those of the evaluation, so that the model
    is among them.
    """
    parents = [Path(parent["path"]) for parent in artifact.lineage["parents"]]
    found = {
        name: describe_contamination(one["contamination"])
        for part in ("benchmarks", "suites")
        for name, one in (results.get(part) or {}).items()
    }
    return Lineage(
        "evaluation",
        artifact.lineage["config"] | {"contamination": list(names)},
        [parent for parent in parents if (parent / LINEAGE).is_file()],
        artifact.lineage["seed"],
        artifact.lineage["result"] | {"contamination": found},
    )
