"""The body of the training loop that pre-training and fine-tuning share: metrics, validation, progress, the
final figures.

The loop itself is `training.train_steps`; here stands what a person wants to happen around it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.files import disk_errors
from parakit.common.formatting import quantity
from parakit.common.progress import Bar, log, progress
from parakit.model.heads import Model
from parakit.model.layers.experts import pop_expert_load
from parakit.stages.tasks import Lesson
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.compilation import discard_compiled_code
from parakit.training.config import TrainingPlan
from parakit.training.loop import StepRecord
from parakit.training.metrics import METRICS, MetricsLog, read_metrics
from parakit.training.session import TrainingSession
from parakit.training.tasks import TaskSpec, task_spec
from parakit.training.throughput import measured_peak_flops


@dataclass(frozen=True)
class TrainingInputs:
    """What a run stands on: a model to train, what it learns from, and how. `examined` is the lesson that the doctor
    looks at, where the run's own is that one with something in it that only the `further_checks` know.
    """

    title: str
    model: Model
    tokenizer: Tokenizer
    lesson: Lesson
    plan: TrainingPlan
    work: Path
    examined: Lesson | None = None
    further_checks: Callable[[], list[doctor.CheckResult]] = list
    frozen: Callable[[str], bool] | None = None
    """Whether the run means to keep the parameter of this name as it is; None: everything trains."""
    before: Mapping[str, Any] | None = None
    """What `lesson.measure` said of the model as it came; None: nothing is compared. Of the run's own weights it would
    be too late after a resume."""


def run_training(inputs: TrainingInputs) -> dict[str, Any]:
    """Train to the end of the plan, going on from an earlier checkpoint in `work`; returns the figures
    for lineage and report.

    Checkpoints and `metrics.jsonl` stand in `work`. Raises `DoctorError` before the first step when the
    doctor finds a fault.
    """
    plan, lesson = inputs.plan, inputs.lesson
    if lesson.data is not None:
        _examine(inputs)
    session = TrainingSession(inputs.model, lesson.source, lesson.objective, plan, inputs.work)
    if session.first_step:
        log(f"{inputs.title}: going on after step {session.first_step} of {plan.max_steps}")
    log(
        f"{inputs.title}: {'compiled' if session.compile_choice.compiled else 'eager'} ({session.compile_choice.reason})"
    )
    if lesson.step_figures:
        lesson.step_figures()  # what the doctor and the compiler tried belongs to no step
    started, step = time.monotonic(), session.first_step
    with (
        disk_errors(inputs.work),
        _metrics(inputs.work, session.first_step) as metrics,
        progress(inputs.title, _amount(inputs, plan.max_steps), lesson.unit) as bar,
    ):
        bar.resume_at(_amount(inputs, session.first_step))
        if inputs.before is not None and not session.first_step:
            metrics.write("validation", 0, **_compared(inputs.before, inputs.before))
        for record in session.steps():
            step = record.step
            more = lesson.step_figures() if lesson.step_figures else {}
            shown = {lesson.primary_metric: f"{more.get(lesson.primary_metric, record.loss):.3f}"}
            if lesson.secondary_metric in more:
                shown[lesson.secondary_metric] = f"{more[lesson.secondary_metric]:.3f}"
            bar.advance(_amount(inputs, step) - _amount(inputs, step - 1), **shown)
            _log(record, metrics, more)
            if lesson.should_stop and lesson.should_stop(step):
                break
            if step % plan.validate_every == 0 and step < plan.max_steps:
                with session.eager():
                    _validate(inputs, step, metrics, bar)
        discard_compiled_code(session.model)
        final = _validate(inputs, step, metrics, bar)
    return _figures(inputs, session, final, step, time.monotonic() - started)


@contextlib.contextmanager
def _metrics(work: Path, first_step: int) -> Iterator[MetricsLog]:
    """A metrics log for the length of the run. When the run has failed, a failure to close is not worth
    hiding its reason.
    """
    metrics = MetricsLog(work, first_step)
    try:
        yield metrics
    except BaseException:
        with contextlib.suppress(OSError):
            metrics.close()
        raise
    metrics.close()


def _examine(inputs: TrainingInputs) -> None:
    lesson = inputs.examined or inputs.lesson
    findings = doctor.run_checks(
        inputs.model,
        inputs.tokenizer,
        lesson.source,
        lesson.data,
        inputs.plan,
        lesson.objective,
        spec_of(lesson.kind, inputs.model),
        frozen=inputs.frozen,
    )
    doctor.raise_first_failure(findings)
    further = inputs.further_checks()
    doctor.raise_first_failure(further)
    findings += further
    log(f"{inputs.title}: the doctor made {len(findings)} checks and found nothing wrong")


def spec_of(kind: str, model: Model) -> TaskSpec:
    """The row of the task table that a lesson of this kind trains."""
    return task_spec("next_token" if kind == "pretrain" else kind, model.config.family)


def _amount(inputs: TrainingInputs, step: int) -> int:
    """What the first `step` steps take: tokens where rows are of one length, else rows."""
    plan = inputs.plan
    return plan.n_tokens(step) if inputs.lesson.unit == "tokens" else plan.rows_before(step)


def _log(record: StepRecord, metrics: MetricsLog, more: dict[str, float]) -> None:
    metrics.write(
        "step",
        record.step,
        loss=None if record.skipped else record.loss,
        learning_rate=record.learning_rate,
        grad_norm=record.grad_norm if not record.skipped else None,
        tokens=record.n_tokens,
        seconds=record.seconds,
        tokens_per_second=record.n_tokens / record.seconds,
        skipped=record.skipped,
        **more,
    )
    if record.skipped:
        log(f"step {record.step} was skipped: loss {record.loss:.4g}, gradient norm {record.grad_norm:.4g}")


def _validate(inputs: TrainingInputs, step: int, metrics: MetricsLog, bar: Bar) -> dict[str, Any]:
    """Measure the whole validation split, and tell how evenly experts were used since the last time."""
    load = {str(layer): shares for layer, shares in pop_expert_load(inputs.model).items()}
    if load:
        metrics.write("experts", step, load=load)
    result = inputs.lesson.measure(inputs.model)
    if inputs.before is not None:
        result = _compared(result, inputs.before)
    metrics.write("validation", step, **result)
    named = (inputs.lesson.primary_metric, inputs.lesson.secondary_metric)
    bar.figures["validation"] = " and ".join(f"{result[name]:.3f}" for name in named if name)
    if "forgetting" in result:
        bar.figures["forgetting"] = f"{result['forgetting']:+.3f}"
    return result | ({"expert_load": load} if load else {})


def _compared(result: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """`result`, and `forgetting`: by how much the loss on earlier data has risen since before the first step."""
    if "earlier_loss" not in result:
        return dict(result)
    return {**result, "forgetting": result["earlier_loss"] - before["earlier_loss"]}


def _figures(
    inputs: TrainingInputs, session: TrainingSession, final: dict[str, Any], n_steps: int, wall: float
) -> dict[str, Any]:
    plan, config = inputs.plan, inputs.model.config
    steps = [row for row in read_metrics(inputs.work / METRICS) if row["kind"] == "step"]
    rates = sorted(row["tokens_per_second"] for row in steps)
    rate = rates[len(rates) // 2] if rates else 0.0
    figures = {
        "family": config.family,
        "parameters": sum(parameter.numel() for parameter in inputs.model.parameters()),
        "trained_parameters": sum(p.numel() for p in inputs.model.parameters() if p.requires_grad),
        "tokens": sum(row["tokens"] for row in steps),
        "steps": n_steps,
        "skipped_steps": sum(row["skipped"] for row in steps),
        **final,
        **({"before": dict(inputs.before)} if inputs.before is not None else {}),
        "loss_unit": inputs.lesson.loss_unit,
        "training_seconds": session.seconds,
        "seconds": wall,
        "tokens_per_second": rate,
        "compiled": session.compile_choice.compiled,
        "compile_reason": session.compile_choice.reason,
        "plan": plan.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }
    if inputs.lesson.every_token_counts:
        peak = measured_peak_flops(session.device.type, session.precision.dtype)
        figures["share_of_peak"] = rate * config.flops_per_token(plan.seq_len) / peak
    return figures


def chart_rows(work: Path, most: int = 400) -> dict[str, list[dict[str, Any]]]:
    """Metrics for the report: at most `most` step rows with tokens counted up, and every validation."""
    seen = 0
    steps: list[dict[str, Any]] = []
    validations: list[dict[str, Any]] = []
    for row in read_metrics(work / METRICS):
        seen += row["tokens"] if row["kind"] == "step" else 0
        if row["kind"] in ("step", "validation"):
            (steps if row["kind"] == "step" else validations).append(row | {"tokens": seen})
    keep = max(1, -(-len(steps) // most))
    return {"metrics": steps[::keep], "validations": validations}


def describe_plan(plan: TrainingPlan, unit: str = "tokens") -> str:
    """One line for people."""
    rows = f"{plan.n_rows} x {plan.seq_len} tokens ({quantity(plan.n_tokens())} in all)"
    if unit != "tokens":
        rows = f"{plan.n_rows} {unit} of up to {plan.seq_len} tokens"
    return f"{plan.max_steps} steps of {rows}, {plan.optimizer}, {plan.schedule}"
