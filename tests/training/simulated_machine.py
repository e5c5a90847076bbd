"""A machine whose speed is a function of the time, on which a plan is followed without training anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from parakit.training.pace import Pace, TimeBudget
from parakit.training.plan import TrainingPlan
from tests.training.tiny_runs import tiny_plan

Speed = Callable[[float, int], float]
"""Steps of full speed in a second, by the part of the time that has passed and the number of threads."""


@dataclass
class Machine:
    """Seconds that pass with work only. Works of one second of full speed take `1 / speed`."""

    seconds: float
    speed: Speed = lambda part, threads: 1.0
    most_threads: int = 1
    now: float = 0.0
    threads: int = field(init=False)

    def __post_init__(self) -> None:
        self.threads = self.most_threads

    def work(self, seconds: float) -> None:
        self.now += seconds / self.speed(self.now / self.seconds, self.threads)

    def budget(self, **settings: float) -> TimeBudget:
        def rate(threads: int) -> float:
            return self.speed(self.now / self.seconds, threads)

        return TimeBudget(
            self.seconds, lambda: self.now, most_threads=self.most_threads, thread_rate=rate, **settings
        )


@dataclass(frozen=True)
class Followed:
    """A run that has ended."""

    plan: TrainingPlan
    n_steps: int
    of_the_time: float
    threads: list[int]


def follow(
    machine: Machine,
    n_planned: int,
    step: float,
    *,
    validation: float = 0.0,
    save: float = 0.0,
    after: float = 0.0,
    jitter: Callable[[], float] = lambda: 1.0,
    **settings: object,
) -> Followed:
    """Follow a plan of `n_planned` steps of `step` seconds, with eight validations, and a checkpoint every tenth of the
    time; `after`: the work after the last validation.
    """
    budget = machine.budget(after=after)
    plan = tiny_plan(max_steps=n_planned, **settings).replace(most_steps=10**9)
    pace = Pace(budget, plan, 0, on_cpu=True)
    done, saved, threads = 0, 0.0, []
    while done < plan.max_steps:
        machine.threads = plan.threads_at(done) or machine.most_threads
        threads.append(machine.threads)
        pace.begin_step()
        machine.work(step * jitter())
        pace.end_step()
        done += 1
        if done % plan.validate_every == 0 and done < plan.max_steps:
            with pace.validation():
                machine.work(validation)
        plan = pace.revise(plan, done)
        if machine.now - saved > machine.seconds / 10:
            with pace.save():
                machine.work(save)
            saved = machine.now
    machine.threads = machine.most_threads
    machine.work(validation + after)
    return Followed(plan, done, machine.now / machine.seconds, threads)
