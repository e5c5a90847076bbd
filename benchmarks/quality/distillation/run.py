"""Distil with every seed, judge every student, compare, and report.

Decoder: the primer's base, tuned for two epochs, teaches two of its five layers on two fifths of the conversations that
tuned it. Encoder: one that fills masks in the primer's text teaches two of its five layers on that text;
then all are tuned alike for a task. On the same rows, for as many steps, the same start learns from labels alone,
and so does the same shape with fresh weights.

Shown are medians with lowest and highest, and the 95 % interval (Student's t) of the mean over seeds.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from benchmarks.harness import kept_or_measured, summary, work_folder
from benchmarks.quality.distillation.settings import decoder, encoder
from benchmarks.quality.distillation.speed import share_of_parameters, speed
from benchmarks.quality.distillation.students import SIDES, Setting, trained
from benchmarks.registry import Figures, benchmark

Part = Literal["decoder", "encoder"]
PARTS: tuple[Part, ...] = ("decoder", "encoder")
T_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
Scores = Mapping[str, Sequence[Mapping[str, float]]]  # of each side, by seed


@benchmark("distillation", {
    "*.share_of_parameters": ("<= 0.6", "{0}: parameters over the teacher's"),
    "*.kept": (">= 0.97", "{0}: score over the teacher's"),
    "*.gain_over_labels_only": ("> 0", "{0}: gain over the same student without a teacher"),
    "*.gain_over_labels_only_interval.low": ("> 0", "{0}: that gain, lower end of the 95 % interval"),
    "*.gain_over_fresh": ("> 0", "{0}: gain over fresh weights of the same shape"),
    "*.speed.forward": (">= 1.6", "{0}: forward passes, speed over the teacher's"),
    "decoder.speed.generation": (">= 1.6", "decoder: generation, speed over the teacher's"),
})  # fmt: skip
def distillation(
    *,
    build: Path = Path("builds/primer"),
    parts: tuple[Part, ...] = PARTS,
    seeds: int = 5,
    fresh_seeds: int = 1,
    teacher: Path | None = None,
    steps: int | None = None,
    suite_items: int = 250,
    work: Path | None = None,
) -> Figures:
    """`build` is a finished build of the primer. `fresh_seeds` of the seeds run with fresh weights as well; `teacher` is the
    decoder's, instead of fine-tuning one; `steps` of every student, instead of the chosen number; `work` keeps all
    folders.
    """
    import torch

    torch.set_num_threads(1)
    figures: Figures = {"seeds": seeds}
    with work_folder(work) as folder:
        for part in parts:
            (folder / part).mkdir(parents=True, exist_ok=True)
            if part == "decoder":
                setting = decoder(build, folder / part, teacher, steps, suite_items)
            else:
                setting = encoder(folder / part, steps)
            figures[part] = compared(setting, seeds, fresh_seeds, folder / part)
    return figures


def compared(setting: Setting, n_seeds: int, n_fresh: int, folder: Path) -> Figures:
    """All students of every seed, and what they keep of their teacher."""
    scores: dict[str, list[dict[str, float]]] = {side: [] for side in ("teacher", *SIDES)}
    for seed in range(n_seeds):
        for side, found in scores.items():
            if side == "fresh" and seed >= n_fresh:
                continue
            found.append(_scored(setting, side, seed, folder))
            print(f"{setting.name} seed {seed} {side}: {found[-1]}", file=sys.stderr, flush=True)
    student = folder / "student-0"
    return {
        "setting": {"steps": setting.max_steps, "rates": dict(setting.rates), **setting.taught},
        **{side: _summaries(found) for side, found in scores.items() if found},
        **gains(scores),
        "share_of_parameters": share_of_parameters(student, setting.teacher),
        "speed": speed(student, setting.teacher),
    }


def _scored(setting: Setting, side: str, seed: int, folder: Path) -> dict[str, float]:
    """The scores of one model, kept next to it."""

    def measure() -> Figures:
        model = setting.teacher if side == "teacher" else trained(setting, side, seed, folder)
        return dict(setting.score(model, seed))

    return kept_or_measured(folder / f"{side}-{seed}.json", measure)


def gains(scores: Scores) -> Figures:
    """What the student keeps of its teacher, and gains over those without one, seed by seed."""
    found: Figures = {}
    for figure in scores["student"][0]:
        of = {side: [each[figure] for each in by_seed] for side, by_seed in scores.items()}
        pairs = {
            side: list(zip(of["student"], of[side], strict=False)) for side in of
        }  # fresh: of some seeds
        name = "" if figure == "suite_mean" else f"_in_{figure}"
        for key, values in (
            ("kept", [student / other for student, other in pairs["teacher"]]),
            ("gain_over_labels_only", [student - other for student, other in pairs["labels_only"]]),
            ("gain_over_fresh", [student - other for student, other in pairs["fresh"]]),
        ):
            if values:
                found[key + name] = summary(values)
            if len(values) > 1:
                found[f"{key}{name}_interval"] = interval(values)
    return found


def interval(values: Sequence[float]) -> Figures:
    """The mean with its 95 % interval, by Student's t."""
    mean, n = statistics.mean(values), len(values)
    reach = T_QUANTILES[n] * statistics.stdev(values) / n**0.5
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def _summaries(found: Sequence[Mapping[str, float]]) -> Figures:
    return {figure: summary([each[figure] for each in found]) for figure in found[0]}
