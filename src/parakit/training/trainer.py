"""The trainer: one model, one task, one plan; from the doctor's checks to the figures of the trained model.

`train` is everything around the loop: checks before it; metrics, validation and progress in its body; figures after
it. `Trainer.steps` is the loop with checkpoints: it saves when a checkpoint is due, stops cleanly on Ctrl-C or SIGTERM,
and resumes from the newest valid checkpoint of its folder. The batch of a step is a pure function of the step number, so
a checkpoint needs no other position. Where the model samples its own rows, in phases of several steps, checkpoints are
made between phases only and include the state of the source.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors
from parakit.common.processes import first_alone, from_first
from parakit.common.progress import Bar, log, progress
from parakit.model.backbones import set_checkpointing
from parakit.model.heads import TransformerModel
from parakit.model.layers.experts import pop_expert_load
from parakit.training import compilation
from parakit.training.doctor.setup import TrainingSetup, check_setup
from parakit.training.interruption import TrainingInterrupted, stop_signals
from parakit.training.loop import SpikeGuard, StepRecord, train_steps
from parakit.training.metrics import SAMPLE, MetricsLog
from parakit.training.micro_batches import Objective, TrainingBatch, to_micro_batch
from parakit.training.monitoring.best_weights import BestWeights
from parakit.training.monitoring.dynamics import Dynamics
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.monitoring.trackers import open_tracker
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.pace import Pace, TimeBudget
from parakit.training.parallel.engine import ONE_PROCESS, TrainingEngine
from parakit.training.parallel.start import agree_on_plan, check_in_parts, make_engine
from parakit.training.plan import TrainingPlan
from parakit.training.precision import Precision
from parakit.training.row_sources import PlannedSource, RolloutSource, RowSource, lengths_of
from parakit.training.run_figures import run_figures
from parakit.training.threads import kept_memory, returned_memory
from parakit.training.train_state import load_train_state, save_train_state, saved_tensors
from parakit.training.validation import with_forgetting

SAVE_SECONDS = 60.0
RECENT_SECONDS = 10.0  # a checkpoint that young need not be repeated before a validation
_DEFAULT_MONITORING = MonitoringSettings()
N_MEASURED_STEPS = 12  # first steps of a compiled run, from which the speedup is computed


def train(setup: TrainingSetup) -> JsonObject:
    """Train to the end of the plan, resuming from a checkpoint in the run directory; returns the figures for lineage
    and report.

    Raises `DoctorError` before the first step when the doctor finds a fault, and `TrainingInterrupted` after a signal.
    """
    task, plan = setup.task, setup.plan
    engine = make_engine(plan, sum(p.numel() for p in setup.model.parameters() if p.requires_grad))
    check_in_parts(plan, setup.model, setup.monitoring)
    if task.data is not None and not plan.in_parts:
        first_alone("doctor", lambda: check_setup(setup))
    trainer = Trainer(
        setup.model, task.source, task.objective, plan, setup.run_dir, setup.budget, engine, setup.monitoring
    )
    _log_start(setup, trainer)
    if task.step_metrics:
        task.step_metrics(engine.sum_figures)  # drops those of the doctor's and the compiler's passes
    started, step, validated = time.monotonic(), trainer.first_step, -1
    with (
        disk_errors(setup.run_dir),
        trainer.log_metrics(setup.run_dir) as metrics,
        progress(setup.title, setup.amount(plan.max_steps, plan), task.spec.progress_unit) as bar,
    ):
        bar.resume_at(setup.amount(trainer.first_step, trainer.plan))
        if setup.before is not None and not trainer.first_step:
            metrics.write("validation", 0, **with_forgetting(setup.before, setup.before))
        if trainer.validation_pending:
            validated, final = step, _validate(setup, trainer, step, metrics, bar)
        for record in () if trainer.best.is_over else trainer.steps():
            step = record.step
            step_metrics = dict(task.step_metrics(engine.sum_figures)) if task.step_metrics else {}
            step_metrics |= trainer.dynamics.figures if trainer.dynamics else {}
            _advance_bar(setup, trainer.plan, bar, record, step_metrics)
            metrics.write_step(record, step_metrics)
            if task.should_stop and task.should_stop(step, engine.sum_figures):
                break
            if step % trainer.plan.validate_every == 0 and step < trainer.plan.max_steps:
                trainer.save_before_validation(step)
                validated, final = step, _validate(setup, trainer, step, metrics, bar)
                if trainer.best.is_over:
                    log(
                        f"{setup.title}: ends after step {step}: {setup.monitoring.patience} validations without a lower loss"
                    )
                    break
        compilation.discard_compiled_code(trainer.model)
        if validated != step:  # the time may be over after a validation
            final = _validate(setup, trainer, step, metrics, bar)
    trainer.optimizer.finish()
    trainer.engine.release()
    if best := trainer.best.restore(trainer.model, step):
        final = best[1] | {"best_step": best[0]}
    seconds = time.monotonic() - started
    figures = partial(run_figures, trainer, task, setup.run_dir, final, setup.before, step, seconds)
    return from_first("figures", figures)


class Trainer:
    """The state of a run and its loop. `folder` is where checkpoints go; None trains without any."""

    def __init__(
        self,
        model: TransformerModel,
        source: RowSource,
        objective: Objective,
        plan: TrainingPlan,
        folder: Path | None,
        budget: TimeBudget | None = None,
        engine: TrainingEngine = ONE_PROCESS,
        monitoring: MonitoringSettings = _DEFAULT_MONITORING,
    ) -> None:
        self.device = pick_device(plan.device)
        self.model: TransformerModel = model
        self.source, self.plan, self.folder, self.engine = source, plan, folder, engine
        set_checkpointing(self.model, plan.checkpoint_every if plan.gradient_checkpointing else 0)
        self.plain_objective, self.objective = objective, engine.attach(model, objective, self.device)
        self.optimizer = Optimizer(self.model, plan)
        self.precision = Precision(plan.precision, self.device)
        self.guard = SpikeGuard(detects_spikes=not isinstance(source, RolloutSource))
        self.first_step = 0
        extra: JsonObject = {}
        if folder is not None and from_first("run directory", folder.exists):
            self.first_step, extra = load_train_state(
                folder, self.model, self.optimizer, self.precision, self.guard, engine
            )
        self.monitoring, every = monitoring, monitoring.dynamics_every
        self.best = BestWeights(folder, monitoring, self.first_step)
        self.dynamics = Dynamics(every, self.optimizer.parameters) if every else None
        self.validation_pending = bool(extra.get("validation_pending"))
        if isinstance(source, RolloutSource) and "source" in extra:
            source.load_state(extra["source"])
        self.plan = self.optimizer.plan  # as an interrupted run had revised it
        self.seconds = float(extra.get("seconds", 0.0))
        self._recorded_metrics: JsonObject | None = extra.get("metrics")
        self._metrics: MetricsLog | None = None
        self.pace: Pace | None = None
        if budget is not None:
            budget.used_before = float(extra.get("time_used", 0.0))
            budget.most_threads = budget.most_threads or torch.get_num_threads()
            if not self.plan.revisions and torch.get_num_threads() < budget.most_threads:
                self.plan = self.plan.revised(0, plan.max_steps, torch.get_num_threads())
                self.optimizer.plan = self.plan
            self.pace = Pace(budget, self.plan, self.first_step, on_cpu=self.device.type == "cpu")
        self._stop_logged = False
        self._first_seconds: list[float] = []
        self.compile_choice = compilation.CompileChoice(False, "not chosen yet")
        self.compile_choice = self._choose_compilation(extra.get("compiled"))

    def micro_batches(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of `step` (0 is the first): a pure function of the plan's seed and the step."""
        if self.plan.revisions and isinstance(self.source, PlannedSource):
            self.source.follow(lengths_of(self.plan))
        first, n_rows = self.plan.rows_before(step), self.plan.rows_at(step)
        ranges = self.engine.deal(first, n_rows, self.plan.micro_batch_size)
        with self._sampling(step):
            batches = [self.source.rows(part.start, part.n_rows) for part in ranges]
        masked = self.compile_choice.compiled
        found = [to_micro_batch(batch, self.device, always_masked=masked) for batch in batches]
        pairs = zip(found, ranges, strict=True)
        return [batch if part.counts else replace(batch, n_counted=0) for batch, part in pairs]

    def _sampling(self, step: int) -> contextlib.AbstractContextManager[object]:
        """The context in which the model samples its rows: whole in every process, where a phase begins."""
        begins = isinstance(self.source, RolloutSource) and self._is_between_phases(step)
        return self.engine.whole(everywhere=True) if begins else contextlib.nullcontext()

    def steps(self) -> Iterator[StepRecord]:
        """Train to the end of the plan, with checkpoints. After a signal, saves and raises `TrainingInterrupted`.

        With a `RolloutSource`, saving and stopping wait for the end of a phase; a `UserError` in sampling the next phase
        is raised after a save.
        """
        records = train_steps(
            self.model,
            self._batches(),
            self.objective,
            self.optimizer,
            first_step=self.first_step,
            precision=self.precision,
            guard=self.guard,
            engine=self.engine,
            dynamics=self.dynamics,
        )
        self._saved_at, self._saved_step, due, record = time.monotonic(), self.first_step, False, None
        memory = returned_memory() if self.engine.is_sharded else kept_memory()
        with stop_signals() as stopped, memory:
            try:
                for record in records:
                    self._count_seconds(record)
                    yield record
                    due = due or self._save_due(record.step, time.monotonic() - self._saved_at)
                    stopping, due = self.engine.any_of(bool(stopped), due)
                    resumable = self._resumable_at(record.step, stopping)
                    if resumable and self.pace:
                        plan = self.pace.revise(self.plan, record.step)
                        self.plan = self.optimizer.plan = agree_on_plan(plan)
                        due = due or record.step == self.plan.max_steps
                    if not resumable:
                        continue
                    # after a skipped step a save can wait for a good one, but not at the end
                    wanted = due and (not record.skipped or record.step == self.plan.max_steps)
                    if self.folder is not None and (wanted or stopping):
                        self.save(record.step)
                        due = False
                    if stopping:
                        self.engine.finish_saving()
                        number = stopped[0] if stopped else signal.SIGTERM
                        raise TrainingInterrupted(self._saved_step, self.plan.max_steps, number)
                self.engine.finish_saving()
            except UserError:
                self._save_finished_phase(record)
                raise

    def log_metrics(self, folder: Path) -> MetricsLog:
        """Open the log of metrics in `folder`, cut back to the checkpoint that the run resumes from; checkpoints record
        its state from now on.
        """
        tracker = partial(open_tracker, self.monitoring.tracker, folder, self.plan)
        self._metrics = MetricsLog(folder, self.first_step, self._recorded_metrics, tracker)
        return self._metrics

    def _batches(self) -> Iterator[list[TrainingBatch]]:
        """The batches of every step, to the end of the plan as it is by then."""
        step = self.first_step
        n_threads = (self.pace and self.pace.budget.most_threads) or torch.get_num_threads()
        try:
            while step < self.plan.max_steps:
                if (self.plan.revisions or self.pace) and n_threads > 1:
                    torch.set_num_threads(self.plan.threads_at(step) or n_threads)
                if self.pace:
                    self.pace.begin_step()
                yield self.micro_batches(step)
                step += 1
        finally:
            if self.plan.revisions and n_threads > 1 and not self.pace:
                torch.set_num_threads(n_threads)

    def by_first(self, name: str, measure: Callable[[], list[Any]]) -> list[Any]:
        """What `measure` finds in the first process, with the whole model and the weights to use. Without its compiled code:
        every new shape would be compiled again.
        """
        with compilation.without_compiled_code(self.model), self.optimizer.averaged():
            return self.engine.measure(name, measure)

    def save_before_validation(self, step: int) -> None:
        """Write a checkpoint that a run resumes from with the validation, unless there was one in the last seconds."""
        (is_old,) = self.engine.any_of(time.monotonic() - self._saved_at >= RECENT_SECONDS)
        if self.folder is not None and self._is_between_phases(step) and is_old:
            self.save(step, validation_pending=True)

    def save(self, step: int, validation_pending: bool = False) -> None:
        """Write a checkpoint now."""
        assert self.folder is not None
        self._saved_at, self._saved_step = time.monotonic(), step
        extra: JsonObject = {"seconds": self.seconds, "compiled": self.compile_choice.compiled}
        if validation_pending:
            extra["validation_pending"] = True
        if self._metrics is not None:
            extra["metrics"] = self._metrics.state()
        if isinstance(self.source, RolloutSource):
            extra["source"] = self.source.state()
        if self.pace:
            extra["time_used"] = self.pace.budget.used
        with self.pace.save() if self.pace else contextlib.nullcontext():
            state = (self.model, self.optimizer, self.precision, self.guard, extra, self.engine)
            save_train_state(self.folder, step, *state, self.monitoring.keep_checkpoints)

    def _is_between_phases(self, step: int) -> bool:
        """Whether no phase of sampled rows goes on after `step`."""
        source = self.source
        return not isinstance(source, RolloutSource) or source.resumable_at(step, self.engine.sum_figures)

    def _resumable_at(self, step: int, stopped: bool) -> bool:
        """Whether a run can resume after `step`. Logs that a stop waits for the end of the phase."""
        resumable = self._is_between_phases(step)
        if stopped and not resumable and step < self.plan.max_steps and not self._stop_logged:
            log(
                f"stopping at the end of the phase that step {step} belongs to; interrupt again to stop at once"
            )
            self._stop_logged = True
        return resumable or step == self.plan.max_steps

    def _save_finished_phase(self, record: StepRecord | None) -> None:
        """Save the last finished phase after an error in sampling the next one."""
        sampled = self.folder is not None and isinstance(self.source, RolloutSource)
        if sampled and record and record.step > self._saved_step and self._is_between_phases(record.step):
            self.save(record.step)

    def _count_seconds(self, record: StepRecord) -> None:
        """Add up the run's seconds; store the speedup of a compiled run after its first steps."""
        self.seconds += record.seconds
        if self.pace:
            self.pace.end_step()
        if not (self.compile_choice.eager_seconds and self.compile_choice.compiled):
            return
        self._first_seconds.append(record.seconds)
        if len(self._first_seconds) == N_MEASURED_STEPS:
            batches = self.micro_batches(self.first_step)
            compilation.save_measurement(self.model, batches, self.compile_choice, self._first_seconds)

    def _save_due(self, step: int, seconds_since: float) -> bool:
        if step == self.plan.max_steps:
            return True
        if self.plan.save_every:
            return step % self.plan.save_every == 0
        return seconds_since >= SAVE_SECONDS

    def _choose_compilation(self, compiled_before: bool | None) -> compilation.CompileChoice:
        """Whether to compile; a resumed run keeps its choice, because other kernels would change the last bits."""
        n_left = self.plan.max_steps - self.first_step
        if compiled_before is not None:
            choice = compilation.CompileChoice(compiled_before, "as before the interruption")
        elif n_left == 0:
            choice = compilation.CompileChoice(False, "nothing left to do")
        elif isinstance(self.source, RolloutSource):  # timing a batch would sample a phase
            choice = compilation.CompileChoice(False, "the model samples its own rows, of any lengths")
        elif self.engine.is_sharded and self.plan.compile == "auto":
            choice = compilation.CompileChoice(False, "weights are gathered block by block")
        else:
            with self.precision.autocast():
                batches = self.micro_batches(self.first_step)
                choice = compilation.choose_compilation(
                    self.plan.compile, self.model, self.plain_objective, batches, n_left
                )
            choice = type(choice)(*from_first("compile", lambda: list(astuple(choice))))
        if choice.compiled:
            dynamic = compilation.lengths_vary(self.micro_batches(self.first_step))
            compilation.compile_blocks(self.model, dynamic)
        return choice


def _log_start(setup: TrainingSetup, trainer: Trainer) -> None:
    if trainer.first_step:
        log(f"{setup.title}: resuming after step {trainer.first_step} of {trainer.plan.max_steps}")
    if spread := trainer.engine.describe():
        log(f"{setup.title}: {spread}")
    choice = trainer.compile_choice
    log(f"{setup.title}: {'compiled' if choice.compiled else 'eager'} ({choice.reason})")


def _advance_bar(
    setup: TrainingSetup, plan: TrainingPlan, bar: Bar, record: StepRecord, step_metrics: Mapping[str, float]
) -> None:
    """Advance the progress bar; report a skipped step."""
    spec = setup.task.spec
    figures = {spec.primary_metric: f"{step_metrics.get(spec.primary_metric, record.loss):.3f}"}
    secondary = spec.secondary_metric
    if secondary and secondary in step_metrics:
        figures[secondary] = f"{step_metrics[secondary]:.3f}"
    bar.total = setup.amount(plan.max_steps, plan)
    bar.advance(setup.amount(record.step, plan) - setup.amount(record.step - 1, plan), **figures)
    if record.skipped:
        log(f"step {record.step} was skipped: loss {record.loss:.4g}, gradient norm {record.grad_norm:.4g}")


def _validate(setup: TrainingSetup, trainer: Trainer, step: int, metrics: MetricsLog, bar: Bar) -> JsonObject:
    """Metrics of the whole validation split, and the load of experts since the last validation."""
    load = {str(layer): shares for layer, shares in pop_expert_load(setup.model).items()}
    if load:
        metrics.write("experts", step, load=load)
    with trainer.pace.validation() if trainer.pace else contextlib.nullcontext():
        result, samples = trainer.by_first("validation", lambda: _measure(setup, trainer, step))
        if samples is not None:
            metrics.write(SAMPLE, step, samples=samples)
    trainer.best.record(step, result)
    if setup.before is not None:
        result = with_forgetting(result, setup.before)
    metrics.write("validation", step, **result)
    names = (setup.task.spec.primary_metric, setup.task.spec.secondary_metric)
    bar.figures["validation"] = " and ".join(f"{result[name]:.3f}" for name in names if name)
    if "forgetting" in result:
        bar.figures["forgetting"] = f"{result['forgetting']:+.3f}"
    return result | ({"expert_load": load} if load else {})


def _measure(setup: TrainingSetup, trainer: Trainer, step: int) -> list[Any]:
    """The metrics of the validation split, and samples where the task has any; keeps the best weights."""
    task = setup.task
    result = task.validate(setup.model)
    samples = task.sample(setup.model) if task.sample and not trainer.engine.in_parts else None
    if trainer.best.keeps(step, result):
        trainer.best.keep(step, result, saved_tensors(setup.model))
    return [result, samples]
