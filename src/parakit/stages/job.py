"""The job around the trainer: load, plan, seed, train, card, lineage, save. Every stage that trains a model is one.

A job is a frozen dataclass of settings. Its `prepare` loads the model, resolves the plan (or loads that of an interrupted
run), seeds, and returns what to train and what to write. Checkpoints are in a folder named after the digest of settings
and inputs, so that the same job resumes; a changed one starts from the beginning, unless its first steps are the same.
Of several processes every one trains; the first decides what is measured by time, and writes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from parakit.checkpoints.adapters import save_adapter
from parakit.checkpoints.model_folder import save_model, take_part_in_saving
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.files import JsonObject
from parakit.common.hardware import peak_memory, reset_peak_memory
from parakit.common.processes import from_first, in_turn, is_first, wait_for_all
from parakit.common.progress import log
from parakit.compression.merging import merge_checked
from parakit.model.adapters import Adapter
from parakit.model.heads import TransformerModel
from parakit.model.kernels import compile_ahead
from parakit.reports.cards.adapter_card import adapter_card
from parakit.reports.cards.model_card import stage_card
from parakit.reports.formatting import logit_difference
from parakit.stages.comparison.measuring import Comparison, measure_after, measure_before
from parakit.stages.defaults.published import is_published
from parakit.stages.planning.prediction import expected_loss, predict
from parakit.stages.resuming.changed_settings import Confirm, resume_changed, resumed_changes
from parakit.stages.run_dir import adopt_checkpoints, report_other_runs, run_directory
from parakit.training.config import TrainingConfig, lengths_given
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.monitoring.trackers import check_tracker
from parakit.training.pace import TimeBudget
from parakit.training.row_sources import RolloutSource
from parakit.training.threads import fitted_threads
from parakit.training.trainer import train


def _unchanged(figures: JsonObject) -> JsonObject:
    return figures


@dataclass(frozen=True)
class PreparedRun:
    """The training run of a job, and what it writes afterwards."""

    stage: str
    objective: str
    setup: TrainingSetup
    parents: list[Path]
    """The folders that the model was made from, for its lineage."""
    is_chat: bool = False
    settings: JsonObject = field(default_factory=dict)
    """Further settings for the lineage."""
    summarize: Callable[[JsonObject], JsonObject] = _unchanged
    """Adds measurements of the trained model to the trainer's figures."""
    adapter: Adapter | None = None
    """Saved instead of the model."""
    method: str = "full"
    finish: Callable[[TransformerModel], None] | None = None
    """What is done to the trained model before it is written."""
    merge: bool = False
    """Merge the adapter into the weights and save the model."""
    saved_model: TransformerModel | None = None
    """The part of the trained model that is written; None: all of it."""
    logs: tuple[Path, ...] = ()
    """Further files to copy into the model folder."""
    comparison: Comparison | None = None
    """What is measured before the first step and after the last; None: the model is new."""


class TrainingJob(Protocol):
    """What `run_job` reads of a job."""

    @property
    def work(self) -> Path:
        """Where checkpoints go."""
        ...

    @property
    def training(self) -> TrainingConfig:
        """How to train."""
        ...

    def inputs(self) -> list[Path]:
        """The folders that the result depends on."""
        ...

    def to_spec(self) -> JsonObject:
        """What else the result depends on."""
        ...

    @property
    def budget(self) -> TimeBudget | None:
        """The time that it may take; None: as long as it takes."""
        ...

    def prepare(self, run_dir: Path) -> PreparedRun:
        """Load, plan and seed."""
        ...


def run_job(
    job: TrainingJob, out: Path, overwrite: bool = False, confirm: Confirm | None = None
) -> JsonObject:
    """Train what `job` describes and write it to the model folder `out`; returns the figures. With `confirm`, an interrupted
    run of other settings goes on with these, if it agrees.
    """
    with (
        run_directory(job.work, job.training, job.inputs(), job.to_spec(), overwrite) as run_dir,
        fitted_threads() if job.budget else contextlib.nullcontext() as most_threads,
    ):
        if job.budget:
            job.budget.most_threads = most_threads
        run = in_turn("prepare", lambda: _prepare(job, run_dir, overwrite, confirm))
        setup = run.setup
        if setup.task.sample and pick_device(setup.plan.device).type == "cpu":
            compile_ahead()
        log(f"{setup.title}: {setup.plan.describe(setup.task.spec.progress_unit)}")
        predicted = predict(run.stage, run.objective, run.method, setup)
        reset_peak_memory()  # a build's earlier stages ran in this process
        compares = run.comparison and not setup.plan.in_parts
        figures = _train_compared(run) if compares else run.summarize(train(setup))
        figures |= predicted | {"peak_memory_bytes": peak_memory()} | resumed_changes(run_dir)
        figures |= expected_loss(run.stage, run.objective, setup.model.config, figures)
        if is_first():
            _save(run, figures, out, overwrite, run_dir.name)
        elif run.setup.plan.in_parts:
            take_part_in_saving(run.setup.model)
        wait_for_all("written")
    return figures


def _prepare(job: TrainingJob, run_dir: Path, overwrite: bool, confirm: Confirm | None) -> PreparedRun:
    """The run of `job`, with the checkpoints that it continues. Of several processes the first resolves the plan."""
    monitoring = part_of(job.training, MonitoringSettings)
    if monitoring:
        check_tracker(monitoring.tracker)
    run = job.prepare(run_dir)
    if monitoring:
        run = replace(run, setup=replace(run.setup, monitoring=monitoring))
    if job.budget and not lengths_given(job.training):
        job.budget.keeps_validations = job.training.validate_every is not None
        run = replace(run, setup=replace(run.setup, budget=job.budget))
    if not is_first():
        return run
    setup = run.setup
    if setup.run_dir == run_dir and not isinstance(setup.task.source, RolloutSource):
        adopt_checkpoints(run_dir, setup.plan)
        if confirm:
            resume_changed(run_dir, setup.model.config, setup.plan, confirm)
    report_other_runs(run_dir, overwrite)
    return run


def _train_compared(run: PreparedRun) -> JsonObject:
    """Train, and measure the model before and after."""
    setup, comparison = run.setup, run.comparison
    assert comparison is not None
    model = run.saved_model or setup.model
    before = in_turn(
        "before",
        lambda: measure_before(
            comparison, model, setup.tokenizer, setup.task.validate, run.adapter, setup.run_dir
        ),
    )
    if setup.budget and before:
        setup.budget.validation = before["validation_seconds"]
        setup.budget.after = before["seconds"] - before["validation_seconds"]
    figures = run.summarize(train(replace(setup, before=before.get("validation", setup.before))))
    after = from_first("after", lambda: measure_after(comparison, before, model, setup.tokenizer, figures))
    return figures | after


def _merged(run: PreparedRun, figures: JsonObject) -> TransformerModel:
    """The trained model with its adapter merged; by how much its logits differ is printed and kept in `figures`."""
    merged = merge_checked(run.setup.model, run.setup.tokenizer, run.is_chat, run.setup.run_dir)
    if (found := merged.logit_difference) is not None:
        figures["merge"] = {"logit_difference": asdict(found)}
        log(f"{run.setup.title}: merged; {logit_difference(found.largest, found.n_prompts)}")
    return merged.model


def _save(run: PreparedRun, figures: JsonObject, out: Path, overwrite: bool, run_name: str) -> None:
    started, setup = time.monotonic(), run.setup
    settings = {"stage": run.stage, "objective": run.objective, "chat": run.is_chat} | run.settings
    settings |= {"plan": figures["plan"]}  # with the length that the run turned out to have
    if any(is_published(path) for path in run.parents):
        settings["published"] = True  # what is tuned from it later keeps its defaults
    parents = [
        path for path in run.parents if (path / LINEAGE).is_file()
    ]  # a published folder has no lineage
    kept = run.adapter if not run.merge else None
    model = _merged(run, figures) if run.merge and not run.saved_model else run.saved_model or setup.model
    if run.finish is not None:
        run.finish(model)
    lineage = Lineage(
        "adapter" if kept else "model", settings, list(parents), setup.plan.seed, figures, run_name
    )
    name = out.resolve().parent.name
    logs = [setup.run_dir / METRICS, setup.run_dir / EVENTS, *run.logs]
    if kept:
        base = run.parents[0]
        card = adapter_card(name, base.name, run.method, figures)
        save_adapter(setup.model, kept, base, out, lineage, overwrite, card=card, logs=logs)
    else:
        card = stage_card(name, run.stage, figures)
        save_model(model, setup.tokenizer, out, lineage, overwrite, card=card, logs=logs)
    log(f"{setup.title}: written to {out} in {time.monotonic() - started:.1f}s")
