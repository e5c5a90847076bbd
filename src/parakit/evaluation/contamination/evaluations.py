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
    results: JsonObject, texts: TrainingTexts, advance: OnProgress | None = None, *, strict: bool = False
) -> JsonObject:
    """The results of `evaluate_model` with `contamination` at each benchmark and suite. `strict`: a text that cannot be read
    is a `UserError`, else it is among the unknown ones.
    """
    suites = {
        name: suite_result(name, suite["samples"], suite["prompting"])
        for name, suite in (results.get("suites") or {}).items()
    }
    benchmarks: dict[str, BenchmarkResult] = results.get("benchmarks") or {}
    if not (benchmarks or suites):
        return results
    for text in texts.texts:
        log(f"contamination: searching {text.path} ({text.kind})")
    for reason in texts.unknown:
        log(f"contamination: not searched: {reason}")
    both = {f"benchmarks/{name}": one for name, one in benchmarks.items()}
    both |= {f"suites/{name}": one for name, one in suites.items()}
    found = find_contamination(both, texts, advance, strict=strict)
    return results | {
        "benchmarks": {name: found[f"benchmarks/{name}"] for name in benchmarks},
        "suites": {
            name: results["suites"][name] | {"contamination": found[f"suites/{name}"].contamination}
            for name in suites
        },
    }


def contamination_by_model(
    results: Mapping[str, Mapping[str, BenchmarkResult]], texts: Mapping[str, TrainingTexts]
) -> dict[str, dict[str, JsonObject]]:
    """The contamination of models on the same items, by model and benchmark, with the first `MAX_LISTED` touched items.
    `results`: by model and benchmark, each model after those that it was made from, so that each text is read once.
    """
    items = {name: one.items for found in results.values() for name, one in found.items()}
    search = TextSearch(items)
    by_model: dict[str, dict[str, JsonObject]] = {}
    for model, found in results.items():
        by_model[model] = {}
        for name, result in find_contamination(found, texts[model], search=search).items():
            figures: JsonObject = dict(result.contamination or {})
            if "touched" in figures:
                figures["touched"] = dict(islice(figures["touched"].items(), MAX_LISTED))
            by_model[model][name] = figures
    return by_model


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
