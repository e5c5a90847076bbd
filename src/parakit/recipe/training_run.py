"""The body of the training loop that pre-training and fine-tuning share: metrics, validation, progress, the
final figures.

The loop itself is `training.train_steps`; here stands what a person wants to happen around it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import disk_errors
from parakit.common.progress import Bar, duration, progress, quantity, say
from parakit.evaluation.perplexity import LossResult, evaluate_loss
from parakit.model.heads import LanguageModel
from parakit.tokens.batches import BatchSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.compilation import discard_compiled_code
from parakit.training.config import TrainingPlan
from parakit.training.loop import StepRecord
from parakit.training.metrics import METRICS, MetricsLog, read_metrics
from parakit.training.objectives import next_token
from parakit.training.session import TrainingSession
from parakit.training.throughput import measured_peak_flops


@dataclass(frozen=True)
class TrainingInputs:
    """What a run stands on: a model to train, its tokens, and how."""

    title: str
    kind: str  # "pretrain" or "chat": what the doctor expects of the batches
    model: LanguageModel
    tokenizer: Tokenizer
    train: TokenShards
    validation: TokenShards
    plan: TrainingPlan
    work: Path


def run_training(inputs: TrainingInputs) -> dict[str, Any]:
    """Train to the end of the plan, going on from an earlier checkpoint in `work`; returns the figures
    for lineage and report.

    Checkpoints and `metrics.jsonl` stand in `work`. Raises `DoctorError` before the first step when the
    doctor finds a fault.
    """
    plan = inputs.plan
    packing = "stream" if inputs.kind == "pretrain" else "whole"
    source = BatchSource(inputs.train, plan.seq_len, plan.seed, packing)
    _examine(inputs, source)
    session = TrainingSession(inputs.model, source, next_token, plan, inputs.work)
    if session.first_step:
        say(f"{inputs.title}: going on after step {session.first_step} of {plan.max_steps}")
    say(
        f"{inputs.title}: {'compiled' if session.compile_choice.compiled else 'eager'} ({session.compile_choice.reason})"
    )
    started = time.monotonic()
    with (
        disk_errors(inputs.work),
        _metrics(inputs.work, session.first_step) as metrics,
        progress(inputs.title, plan.n_tokens(), "tokens") as bar,
    ):
        bar.resume_at(plan.n_tokens(session.first_step))
        for record in session.steps():
            _log(record, metrics, bar)
            if record.step % plan.validate_every == 0 and record.step < plan.max_steps:
                with session.as_used():
                    _validate(inputs, record.step, metrics, bar)
        discard_compiled_code(session.model)
        final = _validate(inputs, plan.max_steps, metrics, bar)
    return _figures(inputs, session, final, time.monotonic() - started)


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


def _examine(inputs: TrainingInputs, source: BatchSource) -> None:
    findings = doctor.examine(
        inputs.model, inputs.tokenizer, source, inputs.train, inputs.plan, next_token, inputs.kind
    )
    doctor.require_healthy(findings)
    say(f"{inputs.title}: the doctor made {len(findings)} checks and found nothing wrong")


def _log(record: StepRecord, metrics: MetricsLog, bar: Bar) -> None:
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
    )
    if record.skipped:
        say(f"step {record.step} was skipped: loss {record.loss:.4g}, gradient norm {record.grad_norm:.4g}")
    bar.advance(record.n_tokens, loss=f"{record.loss:.3f}")


def _validate(inputs: TrainingInputs, step: int, metrics: MetricsLog, bar: Bar) -> LossResult:
    """Measure the whole validation split."""
    result = evaluate_loss(inputs.model, inputs.validation, seq_len=inputs.plan.seq_len)
    metrics.write(
        "validation",
        step,
        loss=result.loss_nats_per_token,
        perplexity=result.perplexity,
        bits_per_byte=result.bits_per_byte,
        tokens=inputs.plan.n_tokens(step),
    )
    bar.figures["validation"] = f"{result.loss_nats_per_token:.3f}"
    return result


def _figures(
    inputs: TrainingInputs, session: TrainingSession, final: LossResult, wall: float
) -> dict[str, Any]:
    plan, config = inputs.plan, inputs.model.config
    steps = [row for row in read_metrics(inputs.work / METRICS) if row["kind"] == "step"]
    rates = sorted(row["tokens_per_second"] for row in steps)
    rate = rates[len(rates) // 2] if rates else 0.0
    peak = measured_peak_flops(session.device.type, session.precision.dtype)
    return {
        "parameters": config.n_params()["total"],
        "tokens": plan.n_tokens(),
        "steps": plan.max_steps,
        "skipped_steps": sum(row["skipped"] for row in steps),
        "loss": final.loss_nats_per_token,
        "perplexity": final.perplexity,
        "bits_per_byte": final.bits_per_byte,
        "training_seconds": session.seconds,
        "seconds": wall,
        "tokens_per_second": rate,
        "share_of_peak": rate * config.flops_per_token(plan.seq_len) / peak,
        "compiled": session.compile_choice.compiled,
        "compile_reason": session.compile_choice.reason,
        "plan": plan.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
    }


def chart_rows(work: Path, most: int = 400) -> dict[str, list[dict[str, Any]]]:
    """Metrics for the report: at most `most` step rows with tokens counted up, and every validation."""
    rows = read_metrics(work / METRICS)
    seen, steps = 0, []
    for row in rows:
        if row["kind"] == "step":
            seen += row["tokens"]
            steps.append(row | {"tokens": seen})
    keep = max(1, -(-len(steps) // most))
    return {"metrics": steps[::keep], "validations": [row for row in rows if row["kind"] == "validation"]}


def check_splits(train: TokenShards, validation: TokenShards) -> None:
    """A split without a token to predict is a `UserError` before any work is done."""
    for name, split in (("train", train), ("validation", validation)):
        if split.n_counted == 0:
            raise UserError(
                f"the {name} split holds nothing to predict", "give more text, or raise validation_fraction"
            )


def describe_plan(plan: TrainingPlan, seconds_per_step: float | None = None) -> str:
    """One line for people."""
    tokens = f"{plan.n_rows} x {plan.seq_len} tokens ({quantity(plan.n_tokens())} in all)"
    line = f"{plan.max_steps} steps of {tokens}, {plan.optimizer}, {plan.schedule}"
    return line + (f", about {duration(plan.max_steps * seconds_per_step)}" if seconds_per_step else "")
