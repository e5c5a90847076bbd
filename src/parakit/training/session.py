"""A run that survives: one model, its batches and optimizer, with a checkpoint folder.

`steps()` yields step records like the loop beneath it; around each it saves when it is time to, and stops
cleanly on Ctrl-C or SIGTERM. Begun again with the same plan and folder it goes on where the newest whole
checkpoint stands. The batch of a step is a pure function of the step's number, so nothing else must be
remembered. Where the model makes its rows itself, in phases, checkpoints stand between phases, and hold the little
that such a source remembers.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.model.heads import Model
from parakit.training import compilation
from parakit.training.config import TrainingPlan
from parakit.training.loop import SpikeGuard, StepRecord, train_steps
from parakit.training.micro_batches import Objective, TrainingBatch, to_micro_batch
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.precision import Precision
from parakit.training.row_sources import RolloutSource, RowSource
from parakit.training.train_state import load_train_state, save_train_state

SAVE_SECONDS = 60.0
N_WATCHED_STEPS = 12  # steps of a compiled run whose times tell what compiling brought


class TrainingInterrupted(KeyboardInterrupt):
    """The run was asked to stop; its checkpoint is written and the same command goes on from there."""

    def __init__(self, step: int, max_steps: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step} of {max_steps}; the same command goes on from there")
        self.signal_number = signal_number


class TrainingSession:
    """`folder` is where checkpoints go; None trains without any."""

    def __init__(
        self,
        model: Model,
        source: RowSource,
        objective: Objective,
        plan: TrainingPlan,
        folder: Path | None,
    ) -> None:
        self.device = pick_device(plan.device)
        self.model: Model = model.to(self.device)
        self.source, self.objective, self.plan, self.folder = source, objective, plan, folder
        self.optimizer = Optimizer(self.model, plan)
        self.precision = Precision(plan.precision, self.device)
        self.guard = SpikeGuard(watches_leaps=not isinstance(source, RolloutSource))
        self.first_step = 0
        extra: dict[str, Any] = {}
        if folder is not None and folder.exists():
            self.first_step, extra = load_train_state(
                folder, self.model, self.optimizer, self.precision, self.guard
            )
        if isinstance(source, RolloutSource) and "source" in extra:
            source.load_state(extra["source"])
        self.seconds = float(extra.get("seconds", 0.0))
        self._waiting = False
        self.compile_choice = compilation.CompileChoice(False, "not chosen yet")
        self.compile_choice = self._choose_compilation(extra.get("compiled"))

    def micro_batches(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of `step` (0 is the first): a pure function of the plan's seed and the step."""
        first, n_rows = self.plan.rows_before(step), self.plan.rows_at(step)
        starts = range(0, n_rows, self.plan.micro_batch_size)
        sizes = [min(self.plan.micro_batch_size, n_rows - start) for start in starts]
        batches = [self.source.rows(first + start, size) for start, size in zip(starts, sizes, strict=True)]
        masked = self.compile_choice.compiled
        return [to_micro_batch(batch, self.device, always_masked=masked) for batch in batches]

    def steps(self) -> Iterator[StepRecord]:
        """Train to the end of the plan. Raises `TrainingInterrupted` after a save when asked to stop.

        Where the rows come in phases, saving and stopping wait for the end of one; a mistake of the user's in the
        making of the next phase is raised after a save.
        """
        batches = (self.micro_batches(step) for step in range(self.first_step, self.plan.max_steps))
        saved_at, saved_step, due, record = time.monotonic(), self.first_step, False, None
        with _stop_signals() as stopped:
            try:
                for record in self._timed(batches):
                    yield record
                    due = due or self._save_due(record.step, time.monotonic() - saved_at)
                    if not self._resumable_at(record.step, bool(stopped)):
                        continue
                    if self.folder is not None and (due or stopped) and not record.skipped:
                        self.save(record.step)
                        saved_at, saved_step = time.monotonic(), record.step
                    due = False
                    if stopped:
                        raise TrainingInterrupted(saved_step, self.plan.max_steps, stopped[0])
            except UserError:
                self._save_what_is_whole(record, saved_step)
                raise

    def eager(self) -> contextlib.AbstractContextManager[object]:
        """The model without its compiled code, for validation and samples: their shapes are all different,
        and each would be compiled anew.
        """
        return compilation.without_compiled_code(self.model)

    def save(self, step: int) -> None:
        """Write a checkpoint now."""
        assert self.folder is not None
        extra: dict[str, Any] = {"seconds": self.seconds, "compiled": self.compile_choice.compiled}
        if isinstance(self.source, RolloutSource):
            extra["source"] = self.source.state()
        save_train_state(self.folder, step, self.model, self.optimizer, self.precision, self.guard, extra)

    def _resumable_at(self, step: int, stopped: bool) -> bool:
        """Whether a checkpoint may stand behind `step`. One who waits for the end is told for what."""
        whole = not isinstance(self.source, RolloutSource) or self.source.resumable_at(step)
        if stopped and not whole and step < self.plan.max_steps and not self._waiting:
            log(f"stopping when the phase that step {step} belongs to is over; once more to stop at once")
            self._waiting = True
        return whole or step == self.plan.max_steps

    def _save_what_is_whole(self, record: StepRecord | None, saved_step: int) -> None:
        """Save what was reached when the next phase could not be made."""
        if self.folder is None or record is None or not isinstance(self.source, RolloutSource):
            return
        if record.step > saved_step and not record.skipped and self.source.resumable_at(record.step):
            self.save(record.step)

    def _timed(self, batches: Iterator[Sequence[TrainingBatch]]) -> Iterator[StepRecord]:
        records = train_steps(
            self.model,
            batches,
            self.objective,
            self.optimizer,
            first_step=self.first_step,
            precision=self.precision,
            guard=self.guard,
        )
        first_seconds: list[float] = []
        for record in records:
            self.seconds += record.seconds
            if self.compile_choice.eager_seconds and self.compile_choice.compiled:
                first_seconds.append(record.seconds)
                if len(first_seconds) == N_WATCHED_STEPS:
                    batches_like = self.micro_batches(self.first_step)
                    compilation.remember(self.model, batches_like, self.compile_choice, first_seconds)
            yield record

    def _save_due(self, step: int, seconds_since: float) -> bool:
        if step == self.plan.max_steps:
            return True
        if self.plan.save_every:
            return step % self.plan.save_every == 0
        return seconds_since >= SAVE_SECONDS

    def _choose_compilation(self, compiled_before: bool | None) -> compilation.CompileChoice:
        """A resumed run computes as it did before: another kernel order would change the last bits."""
        n_left = self.plan.max_steps - self.first_step
        if compiled_before is not None:
            choice = compilation.CompileChoice(compiled_before, "as before the interruption")
        elif n_left == 0:
            choice = compilation.CompileChoice(False, "nothing left to do")
        elif isinstance(
            self.source, RolloutSource
        ):  # its first rows are not to be made before they are needed
            choice = compilation.CompileChoice(False, "the model makes its own rows, of any lengths")
        else:
            with self.precision.autocast():
                batches = self.micro_batches(self.first_step)
                choice = compilation.choose(self.plan.compile, self.model, self.objective, batches, n_left)
        if choice.compiled:
            varied = compilation.lengths_vary(self.micro_batches(self.first_step))
            compilation.compile_blocks(self.model, dynamic=varied)
        return choice


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM append to; a second Ctrl-C stops at once. Outside the main thread
    signals cannot be caught.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {}
    with contextlib.suppress(ValueError):
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
