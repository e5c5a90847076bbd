"""Five kinds of prompts on four suites for several models: scores, paired differences from the bare question, tokens.

The suites are the primer's, graded by its own rules in the sandbox; few-shot examples come from another seed of the suite,
without the test items. A model that was tuned on the primer and one that never saw it have the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import kept_or_measured, run_parakit, work_folder
from benchmarks.quality.assistants.prompt_tables import CHECKER, write_tables
from benchmarks.registry import NO_TARGET, Figures, benchmark

KINDS = ("zero_shot", "instruction", "few_shot", "chain_of_thought", "role")


@benchmark("prompt_kinds", {
    "models.*.*.*.score": (NO_TARGET, "{1}, {0}: right answers with {2}"),
    "models.*.*.*.tokens": (NO_TARGET, "{1}, {0}: tokens of an item with {2}"),
})  # fmt: skip
def prompt_kinds(
    *, models: tuple[str, ...], items: int = 200, n_shots: int = 2, work: Path | None = None
) -> Figures:
    """`models`: folders or URLs of chat models; `work` keeps what was measured, so that an interrupted run resumes."""
    found: dict[str, Any] = {}
    with work_folder(work) as folder:
        tables = write_tables(folder, items)
        for model in models:
            name = _short(model)
            found[name] = {
                suite: kept_or_measured(
                    folder / f"{name}-{suite}.json",
                    partial(_measure, model, *paths, n_shots, folder / f"{name}-{suite}"),
                )
                for suite, paths in tables.items()
            }
    return {"items": items, "n_shots": n_shots, "models": found}


def _short(model: str) -> str:
    """A model's name in paths of figures, which dots and slashes would divide."""
    path = Path(model)
    return "-".join(path.parts[-2:]).replace(".", "-").strip("-/")


def _measure(model: str, items: Path, train: Path, n_shots: int, out: Path) -> Figures:
    run = run_parakit(
        *("prompts", "compare", model, *KINDS, "--items", items, "--examples", train),
        *("--n-shots", str(n_shots), "--metric", "checker", "--checker", CHECKER),
        *("--device", "cpu", "--output", out, "--overwrite", "--json"),
    )
    return {name: _figures(one) for name, one in run.figures["prompts"].items()}


def _figures(one: Mapping[str, Any]) -> Figures:
    figures: Figures = {
        "score": one["score"]["value"],
        "low": one["score"]["low"],
        "high": one["score"]["high"],
        "tokens": one["prompt_tokens"]["value"] + one["new_tokens"]["value"],
        "new_tokens": one["new_tokens"]["value"],
        **{key: one[key] for key in ("n_too_long", "n_without_form", "n_cut")},
    }
    if one["comparison"]:
        against = one["comparison"]["scores"]["checker"]
        figures["verdict"] = one["comparison"]["verdict"]
        figures["against_zero_shot"] = {
            key: against[key] for key in ("difference", "low", "high", "corrected_p_value")
        }
    return json.loads(json.dumps(figures))
