"""The plan of a run, in which nothing is open: what resume compares, and what the report shows. Imports no torch.

A run in a given time changes its length as it goes. Every change is part of the plan (`revisions`), so that the schedule
and the data position stay pure functions of plan and step, and the same plan gives the same run again.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Literal

from pydantic import Field

from parakit.common.formatting import quantity
from parakit.common.settings import Config

OptimizerName = Literal["muon", "adamw", "adam", "sgd", "schedule_free"]
ScheduleName = Literal["wsd", "linear", "cosine", "inverse_sqrt", "constant"]
# Of a run in a given time: after how many steps its length was planned, to how many steps in all, and with how many
# threads (0: as many as there are) it went on.
Revisions = tuple[tuple[int, int, int], ...]


class TrainingPlan(Config):
    """Everything a run needs, with nothing left open: what resume compares, and what the report shows."""

    seq_len: int
    micro_batch_size: int
    n_rows: int = Field(description="Rows of a full optimizer batch.")
    batch_growth: int
    max_steps: int
    optimizer: OptimizerName
    learning_rate: float
    embedding_learning_rate: float
    weight_decay: float
    momentum: float
    adam_betas: tuple[float, float]
    schedule: ScheduleName
    warmup_steps: int
    decay_fraction: float
    final_fraction: float
    grad_clip: float
    seed: int
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["auto", "on", "off"]
    device: str
    validate_every: int
    save_every: int | None
    gradient_checkpointing: bool = Field(
        default=False, description="Blocks are computed again in the backward pass instead of kept."
    )
    validation_tokens: int | None = Field(
        default=None, description="Tokens of a validation split that are read, whole documents; None: all."
    )
    checkpoint_every: int = Field(
        default=1, description="Blocks of which one is computed again, with gradient checkpointing."
    )
    parallel: str = Field(
        default="auto", description="How a run in many processes is laid out; see `training.parallel.layout`."
    )
    offload_optimizer: bool = Field(
        default=False, description="Whether the host's memory holds the parts, and the optimizer runs there."
    )
    in_parts: bool = Field(default=False, description="Whether no process ever holds all the weights.")
    most_steps: int | None = Field(
        default=None,
        description="What a run in a given time may grow to; None: to no more than it began with.",
    )
    revisions: Revisions = Field(
        default=(), description="Of a run in a given time: the length that it began with, and every change."
    )

    def revised(self, step: int, max_steps: int, n_threads: int = 0) -> TrainingPlan:
        """The plan of a run that ends after `max_steps` steps, as it turns out after `step` of them. The schedule continues
        from its present point and reaches its end at the new one; what was planned for the steps before is unchanged.
        """
        known: Revisions = self.revisions or ((0, self.max_steps, 0),)
        revisions = (*(one for one in known if one[0] < step), (step, max_steps, n_threads))
        return self.replace(max_steps=max_steps, revisions=revisions)

    def as_interrupted(self, saved: TrainingPlan) -> TrainingPlan:
        """This plan as its own run had revised it when it wrote the checkpoint with the plan `saved`."""
        if not saved.revisions or self.revisions:
            return self
        names = ("max_steps", "revisions", "validate_every")
        return self.replace(**{name: getattr(saved, name) for name in names})

    def threads_at(self, step: int) -> int:
        """How many threads `step` (0 is the first) is computed with; 0: as many as there are."""
        return next((one[2] for one in reversed(self.revisions) if one[0] <= step), 0)

    def warmup_at(self, step: int) -> int:
        """The steps that warm up, as planned at `step`."""
        warmup = self.warmup_steps
        for begin, end, _ in self.revisions[1:]:
            if begin <= step and begin < warmup:
                warmup = max(begin, min(warmup, end // 2))
        return warmup

    def progress(self, step: int, begin: int = 0) -> float:
        """The fraction of the steps from `begin` on that are done before `step`: a pure function of the plan, in which
        every revision spreads what is left over the steps that are left.
        """
        done, since, end = 0.0, begin, self.revisions[0][1] if self.revisions else self.max_steps
        for at, until, _ in self.revisions[1:]:
            if at > step:
                break
            if at > since:
                done += (1.0 - done) * min(1.0, (at - since) / max(1, end - since))
                since = at
            end = until
        return done + (1.0 - done) * min(1.0, (step - since) / max(1, end - since))

    def rows_at(self, step: int) -> int:
        """Rows of the optimizer batch at `step` (0 is the first): the batch doubles in equal stages
        over the first half of the run.
        """
        n_doublings = self.batch_growth.bit_length() - 1
        if not n_doublings:
            return self.n_rows
        if self.revisions:
            stage = min(int(self.progress(step) * 2 * n_doublings), n_doublings)
        else:
            stage = min(step * 2 * n_doublings // self.max_steps, n_doublings)
        return max(1, self.n_rows >> (n_doublings - stage))

    def rows_before(self, step: int) -> int:
        """Rows consumed by the steps before `step`: the data position, a pure function of the step."""
        n_doublings = self.batch_growth.bit_length() - 1
        if not n_doublings:
            return step * self.n_rows
        begins = [self._begin_of_stage(stage, 2 * n_doublings) for stage in range(n_doublings + 1)]
        edges = [*(min(begin, step) for begin in begins), step]
        return sum((end - begin) * self.rows_at(begin) for begin, end in pairwise(edges) if end > begin)

    def _begin_of_stage(self, stage: int, n_stages: int) -> int:
        """The first step of a stage of the batch's growth."""
        if not self.revisions:
            return -(-stage * self.max_steps // n_stages)
        return bisect_left(range(self.max_steps), stage, key=lambda step: int(self.progress(step) * n_stages))

    def n_tokens(self, step: int | None = None) -> int:
        """Tokens (padding included) processed before `step`; in the whole run when None."""
        return self.rows_before(self.max_steps if step is None else step) * self.seq_len

    def describe(self, unit: str = "tokens") -> str:
        """One line for people; `unit` is what progress is counted in."""
        rows = f"{self.n_rows} x {self.seq_len} tokens ({quantity(self.n_tokens())} in all)"
        if unit != "tokens":
            rows = f"{self.n_rows} {unit} of up to {self.seq_len} tokens"
        rate = f"learning rate {self.learning_rate:g}"
        if self.embedding_learning_rate != self.learning_rate:
            rate += f" (embeddings {self.embedding_learning_rate:g})"
        return f"{self.max_steps} steps of {rows}, {self.optimizer}, {self.schedule}, {rate}"
