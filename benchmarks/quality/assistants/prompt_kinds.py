"""Five kinds of prompts on four suites for several models: scores, paired differences from the bare question, tokens.

The suites are the primer's, graded by its own rules in the sandbox; few-shot examples come from another seed of the suite,
without the test items. A model that was tuned on the primer and one that never saw it have the same questions; with `tune`
a third one knows the forms of the prompts (`prompt_forms`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import kept_or_measured, run_parakit, work_folder
from benchmarks.quality.assistants.prompt_forms import write_forms
from benchmarks.quality.assistants.prompt_pictures import draw_kinds
from benchmarks.quality.assistants.prompt_tables import CHECKER, write_tables
from benchmarks.registry import NO_TARGET, Figures, benchmark

TUNED = "tuned-to-forms"
KINDS = ("zero_shot", "instruction", "few_shot", "chain_of_thought", "role")


@benchmark("prompt_kinds", {
    "models.*.*.*.score": (NO_TARGET, "{1}, {0}: right answers with {2}"),
})  # fmt: skip
def prompt_kinds(
    *,
    models: tuple[str, ...],
    limits: tuple[int, ...] = (),
    tune: Path | None = None,
    n_conversations: int = 12_000,
    items: int = 200,
    n_shots: int = 2,
    work: Path | None = None,
) -> Figures:
    """`models`: folders or URLs of chat models, as NAME=PATH or PATH; `limits`: of the first ones, on how many items they are
    measured, where that is fewer. `tune`: a model of the primer, which is tuned on the forms of the prompts and measured as
    well. `work` keeps what was measured, so that an interrupted run resumes.
    """
    found: dict[str, Any] = {}
    with work_folder(work) as folder:
        tables = write_tables(folder, items)
        if tune is not None:
            models = (*models, f"{TUNED}={_tuned(tune, n_conversations, folder)}")
        for given, limit in zip(models, (*limits, *[items] * len(models)), strict=False):
            name, model = _named(given)
            found[name] = {
                suite: kept_or_measured(
                    folder / f"{name}-{suite}-{limit}.json",
                    partial(_measure, model, *paths, n_shots, limit, folder / f"{name}-{suite}"),
                )
                for suite, paths in tables.items()
            }
    draw_kinds(found, KINDS)
    return {"items": items, "n_shots": n_shots, "models": found}


def _tuned(base: Path, n_conversations: int, folder: Path) -> Path:
    """The model that knows the forms of the prompts."""
    model = folder / TUNED / "model"
    if not model.exists():
        forms = folder / "forms.jsonl"
        write_forms(forms, n_conversations)
        run_parakit("finetune", base, "--conversations", forms, "--device", "cpu", "--output", model)
    return model


def _named(given: str) -> tuple[str, str]:
    """The name and the path of NAME=PATH or PATH; dots and slashes would divide the paths of figures."""
    name, equals, path = given.partition("=")
    if not equals:
        name, path = "-".join(Path(given).parts[-2:]), given
    return name.replace(".", "-").strip("-/"), path


def _measure(model: str, items: Path, train: Path, n_shots: int, limit: int, out: Path) -> Figures:
    run = run_parakit(
        *("prompts", "compare", model, *KINDS, "--items", items, "--examples", train),
        *("--limit", str(limit)),
        *("--n-shots", str(n_shots), "--metric", "checker", "--checker", CHECKER),
        *("--device", "cpu", "--output", out, "--overwrite", "--json"),
    )
    n_items = run.figures["n_items"]
    return {name: _figures(one) | {"n_items": n_items} for name, one in run.figures["prompts"].items()}


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
