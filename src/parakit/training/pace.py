"""Keeps a run within a given time, on a machine whose speed changes while it trains.

After every step (of reinforcement learning: every phase) the steps that still fit into the time are counted, from the
speed of the last few, and the plan is revised where they are others than it has. Validations, checkpoints and what comes
after the last step are part of the time. Now and then other numbers of threads are timed: with other work on the cores,
fewer are faster. All that is decided is in the plan's revisions.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from parakit.common.progress import log
from parakit.training.plan import TrainingPlan
from parakit.training.threads import Rate, fastest

TOLERANCE = 0.05  # of the steps that are left: a smaller change is none
WINDOW, MIN_UNITS = 0.05, 3  # of the time, and units: what the present speed is measured on
N_VALIDATIONS = 8  # at most, where nothing is set
VALIDATION_SHARE = 0.08  # of the time that is left, at most
LOGGED_CHANGE = 0.35  # of the run's length
THREADS_EVERY = 0.1  # of the time, from one choice of threads to the next


@dataclass
class TimeBudget:
    """The seconds that a stage may take, from now on to the model that it writes."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    promised: float | None = None
    """What the settings say, on which the stage's fingerprint depends; None: `seconds`, which follow from it."""
    fills: bool = True
    """Whether a run of open length lasts as long; else the seconds only end it early."""
    used_before: float = 0.0
    """By the interrupted run that this one resumes."""
    validation: float = 0.0
    """Seconds of one validation, as far as they are known."""
    after: float = 0.0
    """Seconds of what is done after the last validation, as far as they are known."""
    keeps_validations: bool = False
    """Whether the steps between validations are set; else they follow the length."""
    most_threads: int | None = None
    """None: as many as torch uses."""
    thread_rate: Rate | None = None
    """What a number of threads does in a second; None: it is timed."""
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def to_spec(self) -> dict[str, float]:
        """What a result depends on, for the fingerprint of a run."""
        return {"seconds": self.seconds if self.promised is None else self.promised}

    def part(self, share: float) -> TimeBudget:
        """A share of what is left, from now on."""
        return TimeBudget(share * max(0.0, self.left), self.clock, most_threads=self.most_threads)

    def lasts(self, share: float) -> Callable[[], bool]:
        """Whether a share of what is left now is not over yet, as a function."""
        part = self.part(share)
        return lambda: part.left > 0

    @property
    def used(self) -> float:
        """Seconds that have passed, those of an interrupted run included."""
        return self.used_before + self.clock() - self.started

    @property
    def left(self) -> float:
        """Seconds that are left; negative when they are over."""
        return self.seconds - self.used


class Pace:
    """The speed of one run, and the plan that follows from it. A unit is a step, or a phase of several."""

    def __init__(self, budget: TimeBudget, plan: TrainingPlan, first_step: int, *, on_cpu: bool) -> None:
        self.budget = budget
        self.window: deque[tuple[float, int]] = deque()  # seconds and steps of the last units
        self.window_seconds, self.window_steps = 0.0, 0
        self.began, self.unit_seconds, self.unit_from, self.n_units = budget.clock(), 0.0, first_step, 0
        self.training = self.saving = self.last_save = 0.0  # seconds
        self.validated_at = 0.0  # seconds of a step when the last validation was timed; 0: unknown
        self.logged_steps = plan.max_steps
        self.most_threads = (budget.most_threads or torch.get_num_threads()) if on_cpu else 1
        self.threads = plan.threads_at(first_step)  # 0: all of them
        self.threads_chosen = budget.used

    def begin_step(self) -> None:
        """A step begins, with its batch."""
        self.began = self.budget.clock()

    def end_step(self) -> None:
        """The step is taken."""
        self.unit_seconds += self.budget.clock() - self.began

    @contextlib.contextmanager
    def validation(self) -> Iterator[None]:
        """The block is a validation."""
        started = self.budget.clock()
        yield
        self.budget.validation, self.validated_at = self.budget.clock() - started, self._per_step

    @contextlib.contextmanager
    def save(self) -> Iterator[None]:
        """The block writes a checkpoint."""
        started = self.budget.clock()
        yield
        self.last_save = self.budget.clock() - started
        self.saving += self.last_save

    def revise(self, plan: TrainingPlan, step: int) -> TrainingPlan:
        """`plan`, with the length that fits into the time as it is after `step` steps, the last of which ended a unit."""
        n_steps = step - self.unit_from
        self._count_unit(n_steps)
        if step < plan.max_steps and self.budget.left <= self._ending:
            return plan.revised(step, step, self.threads)  # the time is over, whatever a step takes
        if step >= plan.max_steps or not self._is_known():
            return plan
        n_planned, n_fitting = plan.max_steps - step, self._fitting(plan, step, n_steps)
        most = plan.most_steps or (plan.revisions[0][1] if plan.revisions else plan.max_steps)
        n_fitting = min(n_fitting, max(0, most - step))
        if abs(n_fitting - n_planned) <= TOLERANCE * n_planned:
            n_fitting = n_planned
        threads = self._choose_threads()
        if threads != plan.threads_at(step):
            n_fitting = n_planned  # at a speed that is not known yet
        if n_fitting == n_planned and threads == plan.threads_at(step):
            return plan
        self._log(step, step + n_fitting)
        every = plan.validate_every if self.budget.keeps_validations else self._every(plan, step, n_fitting)
        return plan.revised(step, step + n_fitting, threads).replace(validate_every=every)

    def _count_unit(self, n_steps: int) -> None:
        seconds, self.unit_seconds, self.unit_from = self.unit_seconds, 0.0, self.unit_from + n_steps
        self.n_units, self.training = self.n_units + 1, self.training + seconds
        if self.n_units == 1:
            return  # it allocates, and may compile
        self.window.append((seconds, n_steps))
        self.window_seconds, self.window_steps = self.window_seconds + seconds, self.window_steps + n_steps
        while len(self.window) > MIN_UNITS and (
            self.window_seconds - self.window[0][0] > WINDOW * self.budget.seconds
        ):
            old = self.window.popleft()
            self.window_seconds, self.window_steps = self.window_seconds - old[0], self.window_steps - old[1]

    def _choose_threads(self) -> int:
        """Those of the next step: chosen again now and then. The speed is then measured again."""
        now = self.budget.used
        if self.most_threads == 1 or now - self.threads_chosen < THREADS_EVERY * self.budget.seconds:
            return self.threads
        current = self.threads or self.most_threads
        best = fastest(current, self.most_threads, self.budget.thread_rate)
        self.threads_chosen = self.budget.used
        if best != current:
            self.window.clear()
            self.window_seconds, self.window_steps = 0.0, 0
            self.threads = 0 if best == self.most_threads else best
        return self.threads

    @property
    def _per_step(self) -> float:
        return self.window_seconds / self.window_steps if self.window_steps else 0.0

    @property
    def _validation(self) -> float:
        """Seconds that a validation takes at the present speed."""
        slower = self._per_step / self.validated_at if self.validated_at else 1.0
        return self.budget.validation * slower

    @property
    def _ending(self) -> float:
        """Seconds of what is done after the last step: a validation, a checkpoint, the model, what is measured of it."""
        return self._validation + self.budget.after + 2 * self.last_save

    def _is_known(self) -> bool:
        """Whether the present speed is."""
        return len(self.window) > 1 or self.window_seconds > WINDOW * self.budget.seconds

    def _fitting(self, plan: TrainingPlan, step: int, n_unit: int) -> int:
        """The steps that fit into what is left, in whole units."""
        budget, every = self.budget, plan.validate_every
        left = budget.left - self._ending
        n_validations = (plan.max_steps - 1) // every - step // every
        validating = n_validations * self._validation
        if not budget.keeps_validations:
            validating = min(validating, VALIDATION_SHARE * max(0.0, left))
        per_step = self._per_step * (1.0 + self.saving / max(self.training, self._per_step))
        return max(0, int((left - validating) / (per_step * n_unit) + 0.5)) * n_unit

    def _every(self, plan: TrainingPlan, step: int, n_fitting: int) -> int:
        """The steps between validations: as many validations as planned, or as the time has room for."""
        n_planned = plan.max_steps - step
        every = max(
            1, round(plan.validate_every * n_fitting / n_planned), (step + n_fitting) // N_VALIDATIONS
        )
        if self._validation:
            n_most = int(VALIDATION_SHARE * max(0.0, self.budget.left) / self._validation)
            every = max(every, -(-n_fitting // (n_most + 1)))
        return every

    def _log(self, step: int, max_steps: int) -> None:
        if abs(max_steps - self.logged_steps) > LOGGED_CHANGE * self.logged_steps:
            log(
                f"after step {step}: a step takes {self._per_step:.2g} s, so {max_steps} steps fit into the time, not"
                f" {self.logged_steps}"
            )
            self.logged_steps = max_steps
