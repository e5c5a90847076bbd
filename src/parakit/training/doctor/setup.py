"""What a run is made of, and the doctor's checks of it before the first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parakit.common.devices import pick_device
from parakit.common.progress import log
from parakit.model.heads import TransformerModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.doctor.registry import log_warnings
from parakit.training.micro_batches import to_micro_batch
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.pace import TimeBudget
from parakit.training.plan import TrainingPlan
from parakit.training.precision import Precision
from parakit.training.tasks import TrainingTask
from parakit.training.throughput import measure_peak_flops

CHECK_SECONDS, CHECK_SHARE = 10.0, 0.03  # of the doctor's checks: the least, and of the planned run
SHARE_OF_PEAK = 0.4  # of the peak FLOP/s that steps reach, as a first guess
SMALL_PARAMETERS = 5_000_000


@dataclass(frozen=True)
class TrainingSetup:
    """What `train` needs. Checkpoints and `metrics.jsonl` go to `run_dir`."""

    title: str
    model: TransformerModel
    tokenizer: Tokenizer
    task: TrainingTask
    plan: TrainingPlan
    run_dir: Path
    checked_task: TrainingTask | None = None
    """What the doctor examines instead of `task`, where `task` adds something that only `more_checks` cover."""
    more_checks: Callable[[], list[doctor.CheckResult]] = list
    frozen: Callable[[str], bool] | None = None
    """Whether the parameter of this name is frozen on purpose; None: everything trains."""
    budget: TimeBudget | None = None
    """The time that the run may take; None: as long as the plan's steps take."""
    before: Mapping[str, Any] | None = None
    """The metrics of `task.validate` before the first step, which later ones are compared with; None: not measured."""
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)

    def amount(self, step: int, plan: TrainingPlan) -> int:
        """Progress after `step` steps of `plan`: tokens where rows are of one length, else rows."""
        return plan.n_tokens(step) if self.task.spec.progress_unit == "tokens" else plan.rows_before(step)


def check_setup(setup: TrainingSetup) -> None:
    """Let the doctor examine the data, the batches and the model."""
    started, task = time.monotonic(), setup.checked_task or setup.task
    task.log_long_rows(setup.title)
    results = check_task(setup, task)
    doctor.raise_first_failure(results)
    results += setup.more_checks()
    doctor.raise_first_failure(results)
    skipped = [result.name for result in results if result.skipped]
    took = f" in {time.monotonic() - started:.1f}s" if time.monotonic() - started > 1 else ""
    n_warnings = sum(not result.passed for result in results)
    passed = f"{n_warnings} of them warnings" if n_warnings else "all passed"
    log(f"{setup.title}: the doctor ran {len(results) - len(skipped)} checks{took}: {passed}")
    log_warnings(setup.title, results)
    if skipped:
        log(f"{setup.title}: not checked, to stay within {check_seconds(setup):.0f}s: {', '.join(skipped)}")


def check_task(setup: TrainingSetup, task: TrainingTask) -> list[doctor.CheckResult]:
    """The doctor's results for a task that `setup.model` trains on, within `check_seconds`."""
    return doctor.run_checks(
        setup.model,
        setup.tokenizer,
        task.source,
        task.data,
        setup.plan,
        task.objective,
        task.spec,
        frozen=setup.frozen,
        seconds=check_seconds(setup),
    )


def check_seconds(setup: TrainingSetup) -> float:
    """The time that the checks may take: `CHECK_SHARE` of the run's, at least `CHECK_SECONDS`."""
    config, plan = setup.model.config, setup.plan
    device = pick_device(plan.device)
    n_parameters = sum(p.numel() for p in setup.model.parameters())
    if n_parameters < SMALL_PARAMETERS:  # every check fits, and the peak need not be measured
        return CHECK_SECONDS
    peak = SHARE_OF_PEAK * measure_peak_flops(device.type, Precision(plan.precision, device).dtype)
    batch = to_micro_batch(setup.task.source.rows(0, 1), device)
    n_tokens = plan.rows_before(plan.max_steps) * batch.n_tokens
    run_seconds = n_tokens * config.flops_per_token(min(plan.seq_len, config.max_seq_len)) / peak
    return float(max(CHECK_SECONDS, CHECK_SHARE * run_seconds))
