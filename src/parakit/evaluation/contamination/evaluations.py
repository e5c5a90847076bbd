"""Contamination of a whole evaluation: all of its benchmarks and suites, searched in one pass over the text."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_json_atomic
from parakit.common.progress import OnProgress, log
from parakit.evaluation.comparison.folders import suite_result
from parakit.evaluation.contamination.figures import describe_contamination, find_contamination
from parakit.evaluation.contamination.texts import LINEAGE_TEXTS, TrainingTexts, gather_texts
from parakit.evaluation.results import ITEMS, BenchmarkResult, read_result

RESULTS = "results.json"
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
    benchmarks: Mapping[str, BenchmarkResult],
    texts: TrainingTexts,
    advance: OnProgress | None = None,
) -> JsonObject:
    """The content of a results.json with `contamination` at each benchmark and suite; `benchmarks`: those of `results`,
    with their items. Returns the same object where there are neither.
    """
    suites = {
        name: suite_result(name, suite["samples"], suite["prompting"])
        for name, suite in (results.get("suites") or {}).items()
    }
    if not (benchmarks or suites):
        return results
    for text in texts.texts:
        log(f"contamination: searching {text.path} ({text.kind})")
    for reason in texts.unknown:
        log(f"contamination: not searched: {reason}")
    both = {("benchmarks", name): one for name, one in benchmarks.items()}
    both |= {("suites", name): one for name, one in suites.items()}
    found = find_contamination({f"{part}/{name}": one for (part, name), one in both.items()}, texts, advance)
    for part, name in both:
        figures = found[f"{part}/{name}"].contamination
        results = results | {part: results[part] | {name: results[part][name] | {"contamination": figures}}}
    return results


def search_evaluation(
    path: str | Path,
    names: Sequence[str] = (),
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    advance: OnProgress | None = None,
) -> JsonObject:
    """Search the texts `names` (by default what the evaluated model was trained on) for the items of an evaluation folder;
    returns its results with `contamination`. `output`: an evaluation folder to write, with the same items; it may be
    `path` itself, with `overwrite`. `UserError` for an evaluation without items.
    """
    artifact = open_artifact(path, "evaluation")
    results = read_json(artifact.path / RESULTS)
    if "suite_mean" in results:
        raise UserError(
            f"{path}: is the evaluation of all models of a build", "its figures are in the report"
        )
    benchmarks = {name: read_result(artifact.path, name, results) for name in results.get("benchmarks") or {}}
    if not (benchmarks or results.get("suites")):
        raise UserError(
            f"{path}: holds no benchmark or suite whose items could be searched",
            "evaluate with --tasks or --suites",
        )
    texts = texts_to_search(results["model"]["path"], names)
    if texts is None:
        raise UserError("contamination is none: nothing is left to do", "name texts, or remove it")
    results = add_contamination(results, benchmarks, texts, advance)
    if output is not None:
        config = artifact.lineage["config"] | {"contamination": list(names)}
        places = (
            [artifact.path]
            if Path(output).resolve() != artifact.path.resolve()
            else [Path(parent["path"]) for parent in artifact.lineage["parents"]]
        )
        parents: list[str | Path] = [place for place in places if (place / LINEAGE).is_file()]
        result = artifact.lineage["result"] | {
            "contamination": {
                name: describe_contamination(one["contamination"])
                for part in ("benchmarks", "suites")
                for name, one in (results.get(part) or {}).items()
            }
        }
        lineage = Lineage("evaluation", config, parents, artifact.lineage["seed"], result)
        with writing_artifact(output, lineage, overwrite) as folder:
            if (artifact.path / ITEMS).is_dir():
                shutil.copytree(artifact.path / ITEMS, folder / ITEMS)
            write_json_atomic(folder / RESULTS, results)
    return results
