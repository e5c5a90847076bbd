"""Distil with every seed, judge every student, compare, and report.

Decoder: the primer's base, tuned for two epochs, teaches two of its five layers on two fifths of the conversations that
tuned it. Encoder: one that fills masks in the primer's text teaches two of its five layers on that text;
then all are tuned alike for a task. On the same rows, for as many steps, the same start learns from labels alone,
and so does the same shape with fresh weights.

Shown are medians with lowest and highest, and the 95 % interval (Student's t) of the mean over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.distillation.settings import decoder, encoder
from benchmarks.distillation.speed import share_of_parameters, speed
from benchmarks.distillation.students import SIDES, Setting, trained
from benchmarks.harness import Figures, report, summary
from parakit.common.files import read_json, write_json_atomic

PARTS: dict[str, Callable[[argparse.Namespace, Path], Setting]] = {"decoder": decoder, "encoder": encoder}
T_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
Scores = Mapping[str, Sequence[Mapping[str, float]]]  # of each side, by seed


def main(words: list[str]) -> None:
    """Distil every seed, measure, and report."""
    parser = argparse.ArgumentParser(
        prog="make bench NAME=distillation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--build", type=Path, default=Path("builds/primer"), help="a finished build of the primer"
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="one number, or one for each part")
    parser.add_argument("--fresh-seeds", type=int, default=1, help="of them with fresh weights as well")
    parser.add_argument("--teacher", type=Path, default=None, help="the decoder's, instead of tuning one")
    parser.add_argument("--steps", type=int, default=None, help="of every student; none: as was chosen")
    parser.add_argument("--suite-items", type=int, default=250, help="questions of each suite")
    parser.add_argument("--work", type=Path, default=None, help="keep all folders there, and go on with them")
    arguments = parser.parse_args(words)
    import torch

    torch.set_num_threads(1)
    seeds = arguments.seeds if len(arguments.seeds) > 1 else arguments.seeds * len(arguments.parts)
    figures: Figures = {"seeds": dict(zip(arguments.parts, seeds, strict=True))}
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        for part, n_seeds in figures["seeds"].items():
            (work / part).mkdir(parents=True, exist_ok=True)
            setting = PARTS[part](arguments, work / part)
            figures[part] = compared(setting, n_seeds, arguments.fresh_seeds, work / part)
    report("distillation", figures, bars(figures))


def bars(figures: Figures) -> dict[str, str]:
    """What must hold of each part, of what was measured."""
    bar: dict[str, str] = {}
    for part in figures["seeds"]:
        bar |= {
            f"{part}.share_of_parameters": "<= 0.6",
            f"{part}.kept": ">= 0.97",
            f"{part}.gain_over_labels_only": "> 0",
            f"{part}.gain_over_labels_only_interval.low": "> 0",
            f"{part}.gain_over_fresh": "> 0",
            f"{part}.speed.forward": ">= 1.6",
        }
        if part == "decoder":
            bar["decoder.speed.generation"] = ">= 1.6"
    return {path: limit for path, limit in bar.items() if path.split(".")[1] in figures[path.split(".")[0]]}


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
    """The scores of one model, kept beside it."""
    kept = folder / f"{side}-{seed}.json"
    found: dict[str, float]
    if kept.exists():
        found = read_json(kept)
        return found
    model = setting.teacher if side == "teacher" else trained(setting, side, seed, folder)
    found = setting.score(model, seed)
    write_json_atomic(kept, found)
    return found


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
            ("kept", [ours / theirs for ours, theirs in pairs["teacher"]]),
            ("gain_over_labels_only", [ours - theirs for ours, theirs in pairs["labels_only"]]),
            ("gain_over_fresh", [ours - theirs for ours, theirs in pairs["fresh"]]),
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
