"""A scaling law from small runs on 28 books predicts the loss of a run at several times their compute.

Every size trains on every number of tokens, one thread each; the law of `parakit scale` is fitted to these runs alone, and
one more run of more parameters and tokens is compared with what it predicts. The axis is operations, so other work on the
machine changes nothing but the processor time, which is measured for every run.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import DATA, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.files import read_json, write_json_atomic
from parakit.recipe.config import RecipeConfig
from parakit.recipe.sweeps.plan import Sweep, plan_sweep
from parakit.recipe.sweeps.running import run_sweep, start_process
from parakit.recipe.sweeps.scaling import SIZE, TOKENS, family_runs, plan_family, pretraining_of
from parakit.reports.sweeps.law import fit_family, write_law_report

SIZES, COUNTS = ("43k", "175k", "380k"), (500_000, 1_000_000, 2_000_000)
LARGER_SIZE, LARGER_COUNT = "870k", 4_000_000
TIMES = "processor-seconds.json"


@benchmark("scaling_law", {
    "error": ("<= 0.02", "predicted over measured loss of the larger run, less one"),
    "inside": (">= 1", "the measured loss is inside the predicted interval (1: yes)"),
    "compute_ratio": (">= 4", "operations of the larger run over those of the largest that the law knows"),
    "longest_minutes": ("<= 5", "processor minutes of the longest run that the law knows"),
    "interval_width": (NO_TARGET, "width of the predicted interval over the measured loss"),
})  # fmt: skip
def scaling_law(
    *,
    data: Path = DATA,
    sizes: tuple[str, ...] = SIZES,
    tokens: tuple[int, ...] = COUNTS,
    larger_size: str = LARGER_SIZE,
    larger_tokens: int = LARGER_COUNT,
    seeds: int = 1,
    work: Path | None = None,
) -> Figures:
    """`data` holds the folder gutenberg. `work` keeps the runs, so that an interrupted benchmark resumes."""
    with work_folder(work) as folder:
        recipe = _recipe(data / "gutenberg")
        family = plan_family(recipe, folder / "family", sizes, tokens, seeds)
        more = plan_sweep(
            pretraining_of(recipe, "family"),
            folder,
            None,
            {SIZE: (larger_size,), TOKENS: (larger_tokens,)},
        )
        both = replace(family, runs=(*family.runs, *more.runs))
        run_sweep(both, 1, MeasuredStart(both.place / TIMES))
        known = family_runs([both.build_folder(run.name) for run in family.runs])
        larger = family_runs([both.build_folder(more.runs[0].name)])[0].run
        report = fit_family("gutenberg", known, [(larger.parameters, larger.tokens)])
        write_law_report(report, both.folder / "law")
        seconds = read_json(both.place / TIMES, dict[str, float])
    predicted = report.predictions[0].loss
    return {
        "error": abs(predicted.value / larger.loss - 1),
        "inside": int(predicted.low <= larger.loss <= predicted.high),
        "compute_ratio": larger.compute / max(one.run.compute for one in known),
        "longest_minutes": max(seconds[run.name] for run in family.runs) / 60,
        "interval_width": (predicted.high - predicted.low) / larger.loss,
        "larger": {
            **{"parameters": larger.parameters, "tokens": larger.tokens, "operations": larger.compute},
            **{"measured": larger.loss, "predicted": [predicted.value, predicted.low, predicted.high]},
            "processor_minutes": seconds[more.runs[0].name] / 60,
        },
        "law": report.to_dict()["law"],
        "largest_residual": max(map(abs, report.fit.residuals)),
        "runs": [
            [one.run.parameters, one.run.tokens, one.run.compute, one.run.loss, seconds[one.folder.name]]
            for one in known
        ],
    }


def _recipe(text: Path) -> RecipeConfig:
    return RecipeConfig.parse(
        {
            "text": {"paths": [str(text)], "exclude": ["SOURCE.txt"]},
            "tokenizer": {"vocab_size": 512},
            "max_seq_len": 128,
            # one validation, at the end: eight would take a sixth of the time of the shortest runs
            "pretrain": {"batch_tokens": 2048, "compile": "off", "device": "cpu", "validate_every": 10**6},
        }
    )


class MeasuredStart:
    """Begins runs as `start_process` does, and adds up the processor seconds of each in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, sweep: Sweep, run: str, place: int, parallel: int) -> MeasuredProcess:
        os.environ["OMP_NUM_THREADS"] = "1"
        return MeasuredProcess(start_process(sweep, run, place, parallel), run, self.file)


class MeasuredProcess:
    """A run as a process; its processor time is known when it ends."""

    def __init__(self, process: subprocess.Popen[bytes], run: str, file: Path) -> None:
        self.process, self.run, self.file = process, run, file
        self.stdin = process.stdin

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._status(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status."""
        status = self._status(0)
        assert status is not None
        return status

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def _status(self, options: int) -> int | None:
        if self.process.returncode is None:
            ended, status, usage = os.wait4(self.process.pid, options)
            if not ended:
                return None
            self.process.returncode = os.waitstatus_to_exitcode(status)
            times = read_json(self.file, dict[str, float]) if self.file.is_file() else {}
            times[self.run] = times.get(self.run, 0.0) + usage.ru_utime + usage.ru_stime
            write_json_atomic(self.file, times)
        return self.process.returncode
