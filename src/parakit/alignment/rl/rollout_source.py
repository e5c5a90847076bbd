"""The rows of PPO and GRPO: phases of rollouts, each used for several optimizer steps.

At the first step of a phase the current policy completes prompts; the phase's steps use these rollouts in `minibatches`
parts and `ppo_epochs` orders. A phase is a pure function of its number, the seed and the policy's weights, so a run
resumes exactly, but only at the end of a phase, where the state besides the weights is a few numbers. Of several processes
each completes its part of a phase's prompts and scores its part of the groups, and all learn from the same phase.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Protocol

import numpy as np

from parakit.alignment.config import RLConfig
from parakit.alignment.rl.batches import RolloutBatch, StepMetrics
from parakit.alignment.rl.kl import kl_estimate
from parakit.alignment.rl.overoptimization import diversity_metrics
from parakit.alignment.rl.prompts import RLPrompt
from parakit.alignment.rl.reward import Reward, compute_rewards, reward_metrics
from parakit.alignment.rl.rollouts import Rollouts, TokenRows
from parakit.common.processes import FigureSum
from parakit.common.seeds import rng
from parakit.training.parallel.shares import shared


@dataclass(frozen=True, kw_only=True)
class ExperienceBatch:
    """Rollouts with their training targets. N completions, T targets; the arrays are (N, T) float32."""

    rollouts: Rollouts
    advantages: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    returns: np.ndarray
    normalize_by_tokens: bool
    """Whether a step's loss is divided by its number of tokens, else by its number of completions."""
    informative: np.ndarray | None = None
    """(N,) bool, False = the row's loss and gradient are zero, so it skips the network; None: no such row."""
    metrics: dict[str, float]

    def batch(self, members: np.ndarray) -> RolloutBatch:
        """These rows, cut to the longest of them. Uninformative rows are counted and left out."""
        rows = self.rollouts.rows
        n_counted = int(rows.loss_mask[members].sum()) if self.normalize_by_tokens else len(members)
        if self.informative is not None:
            informative = members[self.informative[members]]
            members = informative if len(informative) else members[:1]
        members = np.sort(members)  # those of one prompt are adjacent
        longest = int(rows.lengths[members].max())
        arrays = {
            "input_ids": rows.input_ids,
            "target_ids": rows.target_ids,
            "loss_mask": rows.loss_mask,
            "log_probs": self.rollouts.log_probs,
            "reference_log_probs": self.rollouts.reference_log_probs,
            "advantages": self.advantages,
            "weights": self.weights,
            "values": self.values,
            "returns": self.returns,
        }
        cut = {name: np.ascontiguousarray(array[members, :longest]) for name, array in arrays.items()}
        return RolloutBatch(
            **cut,
            n_counted=n_counted,
            share_prompts=self.rollouts.share_prompts,
            wide_trees=self.rollouts.wide_trees,
        )


class RLAlgorithm(Protocol):
    """PPO or GRPO: how rollouts and rewards become experience, and its state from phase to phase."""

    needs_values: bool

    def make_experience(
        self, rollouts: Rollouts, rewards: np.ndarray, values: np.ndarray
    ) -> ExperienceBatch: ...
    def update_kl(self, kl: float) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


RollOut = Callable[[Sequence[RLPrompt], int, slice], tuple[Rollouts, np.ndarray]]


class PolicyRolloutSource:
    """Rows of rollouts, in the order of a run's steps. `roll_out(prompts, phase, part)` samples a part of a phase's
    completions from the current policy; `metrics` are those that the objective adds to.
    """

    def __init__(
        self,
        prompts: Sequence[RLPrompt],
        roll_out: RollOut,
        reward: Reward,
        algorithm: RLAlgorithm,
        metrics: StepMetrics,
        config: RLConfig,
    ) -> None:
        self.prompts, self.roll_out, self.reward = prompts, roll_out, reward
        self.algorithm, self.metrics, self.config = algorithm, metrics, config
        self.n_phases = 0
        self.first_step = self.next_step = 0  # of the current phase, and of the next
        self.experience: ExperienceBatch | None = None
        self.seconds = 0.0
        """Spent on rollouts and rewards in this process."""

    @property
    def rows_per_epoch(self) -> float:
        """Rows of one pass over the prompts."""
        config = self.config
        return len(self.prompts) / config.rollout_prompts * config.steps_per_phase * config.n_rows

    def rows(self, start_row: int, n_rows: int) -> RolloutBatch:
        """Rows of the step that contains `start_row`. The first row of a phase's first step starts the phase."""
        step, first = divmod(start_row, self.config.n_rows)
        if step == self.next_step and (self.experience is None or step > self.first_step):
            self._start_phase(step)
        assert self.experience is not None
        assert self.first_step <= step < self.next_step, "a phase's rows are gone when it is over"
        epoch, part = divmod(step - self.first_step, self.config.minibatches)
        order = rng(self.config.seed, "minibatches", self.n_phases, epoch).permutation(self.config.n_rollouts)
        begin = part * self.config.n_rows + first
        return self.experience.batch(order[begin : begin + n_rows])

    def resumable_at(self, step: int, sum_figures: FigureSum = dict) -> bool:
        """Whether the phase ends after `step` steps: at its last, or when `kl_to_rollouts` exceeds `max_kl`."""
        kl = self.step_metrics(sum_figures).get("kl_to_rollouts", 0.0)
        if self.config.max_kl is not None and kl > self.config.max_kl and step > self.first_step:
            self.next_step = min(self.next_step, step)
        return step >= self.next_step

    def should_stop(self, step: int, sum_figures: FigureSum = dict) -> bool:
        """Whether the run ends after `step` steps: with the first phase whose KL from the reference exceeds `kl_limit`."""
        limit = self.config.kl_limit
        exceeded = limit is not None and self.experience is not None and self.experience.metrics["kl"] > limit
        return exceeded and self.resumable_at(step, sum_figures)

    def step_metrics(self, sum_figures: FigureSum = dict) -> dict[str, float]:
        """Metrics of the last step and of its phase."""
        return self.metrics.close_step(sum_figures) | (self.experience.metrics if self.experience else {})

    def state(self) -> dict[str, Any]:
        """For a checkpoint at the end of a phase."""
        return {
            "n_phases": self.n_phases,
            "next_step": self.next_step,
            "algorithm": self.algorithm.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume with a new phase."""
        self.n_phases, self.experience = state["n_phases"], None
        self.first_step = self.next_step = state["next_step"]
        self.algorithm.load_state(state["algorithm"])

    def _start_phase(self, step: int) -> None:
        """Start a phase at `step`. Nothing changes where its rollouts or rewards fail."""
        started = time.perf_counter()
        config, number = self.config, self.n_phases
        prompts = self._prompts(number)
        parts = shared("rollouts", config.n_rollouts, lambda part: self.roll_out(prompts, number, part))
        rollouts, values = join_rollouts(parts)
        rewards, own_metrics = self._rewards(rollouts)
        ended = rollouts.ended
        penalized = rewards - config.truncation_penalty * ~ended
        experience = self.algorithm.make_experience(rollouts, penalized, values)
        loss_mask = rollouts.rows.loss_mask
        estimate = kl_estimate(rollouts.log_probs, rollouts.reference_log_probs, "k1")
        kl = float(estimate[loss_mask].sum()) / len(rewards)
        self.algorithm.update_kl(kl)
        experience.metrics.update(
            reward=float(rewards.mean()),
            reward_std=float(rewards.std()),
            kl=kl,
            length=float(loss_mask.sum()) / len(rewards),
            ended=float(ended.mean()),
            phase=number + 1,
            **own_metrics,
            **diversity_metrics(
                [row[mask] for row, mask in zip(rollouts.rows.target_ids, loss_mask, strict=True)]
            ),
        )
        self.experience, self.n_phases = experience, number + 1
        self.first_step, self.next_step = step, step + config.steps_per_phase
        self.seconds += time.perf_counter() - started

    def _rewards(self, rollouts: Rollouts) -> tuple[np.ndarray, dict[str, float]]:
        """The rewards (N,) and the means of the reward's own metrics. A group is scored as one: equal completions of a prompt
        must not differ by rounding.
        """
        n = self.config.group_size

        def score(groups: slice) -> tuple[np.ndarray, dict[str, float]]:
            samples = rollouts.samples[groups.start * n : groups.stop * n]
            return compute_rewards(self.reward, samples), reward_metrics(self.reward)

        parts = shared("rewards", self.config.rollout_prompts, score)
        rewards = np.concatenate([part for part, _ in parts])
        names = parts[0][1]
        sizes = [len(part) / len(rewards) for part, _ in parts]
        return rewards, {
            name: sum(size * found[name] for size, (_, found) in zip(sizes, parts, strict=True))
            for name in names
        }

    def _prompts(self, phase: int) -> list[RLPrompt]:
        """The prompts of a phase: the next ones, in a new order for each pass."""
        n, n_prompts = len(self.prompts), self.config.rollout_prompts
        prompts: list[RLPrompt] = []
        start = phase * n_prompts
        while len(prompts) < n_prompts:
            epoch, begin = divmod(start + len(prompts), n)
            order = rng(self.config.seed, "prompts", epoch).permutation(n)
            prompts += [self.prompts[i] for i in order[begin : begin + n_prompts - len(prompts)]]
        return prompts


def join_rollouts(parts: Sequence[tuple[Rollouts, np.ndarray]]) -> tuple[Rollouts, np.ndarray]:
    """Parts of a phase, with their values, as one."""
    if len(parts) == 1:
        return parts[0]
    longest = max(values.shape[1] for _, values in parts)

    def join(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.pad(one, ((0, 0), (0, longest - one.shape[1]))) for one in arrays])

    rollouts = [part for part, _ in parts]
    names = [field.name for field in fields(TokenRows)]
    joined = replace(
        rollouts[0],
        samples=tuple(chain.from_iterable(part.samples for part in rollouts)),
        rows=TokenRows(*(join(getattr(part.rows, name) for part in rollouts) for name in names)),
        log_probs=join(part.log_probs for part in rollouts),
        reference_log_probs=join(part.reference_log_probs for part in rollouts),
        ended=np.concatenate([part.ended for part in rollouts]),
    )
    return joined, join(values for _, values in parts)


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """The share of the returns' variance that the values predict; 0 where the returns are constant."""
    variance = float(returns.var())
    return 1 - float((returns - values).var()) / variance if variance > 0 else 0.0
