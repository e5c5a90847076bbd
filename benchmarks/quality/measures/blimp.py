"""BLiMP's 67 sets of minimal pairs and the primer's five behaviours, on the published model of 135M parameters and on a model
trained from scratch on 28 books.

Both are measured by Parakit's own measures: the likelier sentence of a pair is the answer. Chance is 50 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

MODELS = ("published", "from_scratch")


@benchmark("blimp", {
    "published.blimp.accuracy": (">= 0.7", "BLiMP's 67 sets: share of pairs that the published model of 135M has right"),
    "from_scratch.blimp.accuracy": ("> 0.55", "BLiMP's 67 sets: share of pairs, a model trained from scratch on 28 books"),
    "*.blimp.n_sets": ("== 67", "BLiMP: sets that were measured, {0}"),
    "*.blimp.behaviours.*.accuracy": (NO_TARGET, "BLiMP, {1}: share of pairs, {0}"),
    "*.minimal_pairs.behaviours.*.accuracy": (NO_TARGET, "the primer's pairs, {1}: share of pairs, {0}"),
})  # fmt: skip
def blimp(
    *,
    data: Path = DATA,
    published: Path | None = None,
    from_scratch: Path | None = None,
    time: str = "30min",
    n_items: int = 67_000,
    work: Path | None = None,
    table: Path | None = None,
) -> Figures:
    """`published`, `from_scratch`: model folders; without them the published one is fetched already, and the other is built
    from the data's books in `time`. `n_items` pairs are drawn evenly. `work` keeps what is finished; `table`: a Markdown file.
    """
    with work_folder(work) as folder:
        models = {
            "published": published or _published(),
            "from_scratch": from_scratch or _trained(folder / "books", data, time),
        }
        kept = folder if work is not None else None
        figures: Figures = {
            name: kept_or_measured(kept and kept / f"{name}.json", partial(_measured, model, data, n_items))
            for name, model in models.items()
        }
    if table is not None:
        table.write_text(markdown_table(figures), encoding="utf-8")
    return figures


def _published() -> Path:
    from tests.real_models import transformers_folder

    found = transformers_folder()
    if found is None:
        raise SystemExit("no published model: `make real-models` fetches it")
    return found


def _trained(builds: Path, data: Path, time: str) -> Path:
    """The pre-trained model of a build on the books."""
    if not builds.is_dir():
        options = f"--exclude SOURCE.txt --time {time} --json --builds".split()
        run_parakit("build", "--text", data / "gutenberg", *options, builds, timeout=7200)
    return next(path.parent for path in sorted(builds.rglob("model.safetensors")))


def _measured(model_folder: Path, data: Path, n_items: int) -> Figures:
    from parakit.checkpoints.loading import load_model
    from parakit.evaluation.measures.measure import MeasureInput
    from parakit.evaluation.measures.registry import MEASURES

    model, tokenizer = load_model(model_folder)
    assert tokenizer is not None, f"{model_folder} has no tokenizer"
    figures: Figures = {"parameters": model.config.n_params()["total"]}
    for name, n in (("blimp", n_items), ("minimal_pairs", None)):
        result = MEASURES[name].run(MeasureInput(model, tokenizer, model_folder, data, chat=False, n_items=n))
        groups = {
            group: {key: round(getattr(scores["accuracy"], key), 5) for key in ("value", "low", "high", "n")}
            for group, scores in result.groups.items()
        }
        figures[name] = _arranged(result.scores["accuracy"], groups)
    return figures


def _arranged(score: Any, groups: Mapping[str, Figures]) -> Figures:
    """The accuracy with its interval, and of sets, phenomena and behaviours."""
    found: Figures = {"accuracy": score.value, "low": score.low, "high": score.high, "n": score.n}
    found |= {"sets": {}, "phenomena": {}, "behaviours": {}}
    for group, values in groups.items():
        figures = {("accuracy" if key == "value" else key): value for key, value in values.items()}
        if group.startswith("phenomenon: "):
            found["phenomena"][group.removeprefix("phenomenon: ")] = figures
        elif group[0] == "A" and group[1].isdigit():
            found["behaviours"][group.replace(".", "")] = figures
        else:
            found["sets"][group] = figures
    found["n_sets"] = len(found["sets"])
    return found


def markdown_table(figures: Figures) -> str:
    """A page: every set, phenomenon and behaviour with both models' accuracy in percent and its 95 % interval."""
    lines = [
        "# Minimal pairs of English grammar",
        "",
        f"Written by `python -m benchmarks blimp --table FILE`: share of pairs, in percent with the 95 % interval, in which"
        f" the right sentence has the higher log-likelihood; chance is 50. {figures['published']['blimp']['n']:,} pairs of"
        " BLiMP (Warstadt et al. 2020), drawn evenly from its 67 sets, and the primer's own. One model is a published one;"
        f" the other has {figures['from_scratch']['parameters']:,} parameters and was trained from scratch on"
        " 28 books ([how pairs are scored](evaluation.md)).",
        "",
    ]
    lines += ["| of | published model, 135M | trained from scratch |", "| --- | --- | --- |"]
    first = figures["published"]
    for measure, part in (
        ("minimal_pairs", "behaviours"),
        ("blimp", "behaviours"),
        ("blimp", "phenomena"),
        ("blimp", "sets"),
    ):
        for name in first[measure][part]:
            cells = [_cell(figures[model][measure][part].get(name)) for model in MODELS]
            lines.append(
                f"| {'the primer, ' if measure == 'minimal_pairs' else ''}{name} | {' | '.join(cells)} |"
            )
    total = [_cell(figures[model]["blimp"]) for model in MODELS]
    return "\n".join([*lines, f"| BLiMP, all | {' | '.join(total)} |", ""])


def _cell(score: Mapping[str, float] | None) -> str:
    if score is None:
        return ""
    return f"{100 * score['accuracy']:.1f} ({100 * score['low']:.1f} to {100 * score['high']:.1f})"
