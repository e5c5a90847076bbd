"""One start tuned on one set of labels: settings chosen on the validation split, then measured over seeds.

Every start goes through the same: each of the settings once, the best on the validation split counts, and only that is
run with the other seeds. Test figures take no part in the choice.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Figures, run_parakit, summary
from benchmarks.quality.encoder_tasks.data import Labels


@dataclass(frozen=True)
class Start:
    """A model folder to tune from, under a name."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Tuned:
    """What a start reaches: the settings chosen, and figures by split, one a seed."""

    settings: str
    figures: dict[str, list[float]]

    def summary(self, labels: Labels) -> Figures:
        """Median, lowest, highest of the most telling split; medians of the others; the settings."""
        main_set, *others = labels.task.measured
        more = {split: statistics.median(self.figures[split]) for split in others}
        return {**summary(self.figures[main_set]), **more, "settings": self.settings}


def tuned(start: Start, labels: Labels, grid: tuple[str, ...], n_seeds: int, work: Path) -> Tuned:
    """Choose of `grid` on the validation split under seed 0, then run every seed."""
    tried = {settings: _run(start, labels, settings, 0, work) for settings in grid}
    best = max(grid, key=lambda settings: tried[settings]["validation"])
    runs = [tried[best], *(_run(start, labels, best, seed, work) for seed in range(1, n_seeds))]
    return Tuned(best, {split: [run[split] for run in runs] for split in runs[0]})


def _run(start: Start, labels: Labels, settings: str, seed: int, work: Path) -> dict[str, float]:
    """One run of `parakit finetune`, and its model's figure on every split."""
    from parakit.checkpoints import load_model
    from parakit.common.artifacts import open_artifact
    from parakit.common.files import read_json, write_json_atomic
    from parakit.data.examples import read_examples
    from parakit.evaluation.examples import evaluate_examples

    out = work / "tuned" / f"{start.name}-{labels.name}-{seed}"
    words = [open_artifact(start.folder, "model").digest[:12], *settings.split()]
    kept = out.with_name(f"{out.name}-{'-'.join(word.lstrip('-') for word in words)}.json")
    if kept.exists():  # a benchmark that was stopped goes on in the same --work
        return read_json(kept)
    options = f"--task classify --seed {seed} {settings} --overwrite --json"
    files: list[str | Path] = ["--examples", labels.train, "--validation-examples", labels.file("validation")]
    run_parakit("finetune", start.folder, *options.split(), "--output", out, *files)
    model, tokenizer = load_model(out)
    assert tokenizer is not None
    found = {}
    for split in ("validation", *labels.task.measured):
        rows = [row for _, row in read_examples(labels.file(split), "classify")]
        found[split] = evaluate_examples(model, tokenizer, "classify", rows).value(labels.task.figure)
    write_json_atomic(kept, found)
    print(start.name, labels.name, settings, seed, found, file=sys.stderr, flush=True)
    return found
