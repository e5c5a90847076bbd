"""The source of rows that the policy makes itself: a phase of rollouts, learned from in some steps, then the next.

The first step of a phase asks for rows, and the policy, as it then is, answers prompts; the steps after it are served
from the same rollouts, in `minibatches` parts and `ppo_epochs` orders. A phase is a pure function of its number,
the seed and the policy's weights, so a run can be gone on from exactly, but only where a phase ends: there
everything but the weights is a handful of numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from parakit.alignment.rl.batches import RolloutBatch, StepMetrics
from parakit.alignment.rl.config import OnlineConfig
from parakit.alignment.rl.kl import kl_estimate
from parakit.alignment.rl.overoptimization import diversity_metrics
from parakit.alignment.rl.prompts import RLPrompt
from parakit.alignment.rl.reward import Reward, compute_rewards, reward_metrics
from parakit.alignment.rl.rollouts import Rollouts
from parakit.common.seeds import rng


@dataclass(frozen=True, kw_only=True)
class ExperienceBatch:
    """Rollouts with their advantages. N completions, T targets; the arrays are (N, T) float32."""

    rollouts: Rollouts
    advantages: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    returns: np.ndarray
    normalize_by_tokens: bool
    """Whether a step's loss is divided by its tokens, else by its completions."""
    informative: np.ndarray | None = None
    """(N,) bool, False = the row's loss and gradient are zero, so it need not pass the network; None: all do."""
    figures: dict[str, float]

    def batch(self, members: np.ndarray) -> RolloutBatch:
        """These rows, cut to the longest of them. Rows that teach nothing are counted and left out."""
        rows = self.rollouts.rows
        n_counted = int(rows.loss_mask[members].sum()) if self.normalize_by_tokens else len(members)
        if self.informative is not None:
            teaching = members[self.informative[members]]
            members = teaching if len(teaching) else members[:1]
        members = np.sort(members)  # those of one prompt together
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
        return RolloutBatch(**cut, n_counted=n_counted, share_prompts=self.rollouts.share_prompts)


class RLAlgorithm(Protocol):
    """A method: what it makes of rollouts, and what it remembers from phase to phase."""

    needs_values: bool

    def phase(self, rollouts: Rollouts, rewards: np.ndarray, values: np.ndarray) -> ExperienceBatch: ...
    def observe(self, kl: float) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


RollOut = Callable[[Sequence[RLPrompt], int], tuple[Rollouts, np.ndarray]]


class PolicyRolloutSource:
    """Rows of rollouts, in the order that the steps of a run take them. `roll_out(prompts, phase)` asks the policy
    of this moment; `figures` is what the objective adds to.
    """

    def __init__(
        self,
        prompts: Sequence[RLPrompt],
        roll_out: RollOut,
        reward: Reward,
        learning: RLAlgorithm,
        figures: StepMetrics,
        config: OnlineConfig,
    ) -> None:
        self.prompts, self.roll_out, self.reward = prompts, roll_out, reward
        self.learning, self.figures, self.config = learning, figures, config
        self.n_phases = 0
        self.first_step = self.next_step = 0  # of the phase under way, and of the one after it
        self.phase: ExperienceBatch | None = None
        self.seconds = 0.0
        """Spent on rollouts and rewards by this process."""

    @property
    def rows_per_epoch(self) -> float:
        """Rows that the steps of one pass over the prompts take."""
        config = self.config
        return len(self.prompts) / config.rollout_prompts * config.steps_per_phase * config.n_rows

    def rows(self, start_row: int, n_rows: int) -> RolloutBatch:
        """Rows of the step that `start_row` lies in. The first row of a phase's first step makes the phase."""
        step, first = divmod(start_row, self.config.n_rows)
        if step == self.next_step and (self.phase is None or step > self.first_step):
            self._begin(step)
        assert self.phase is not None
        assert self.first_step <= step < self.next_step, "a phase's rows are gone when it is over"
        epoch, part = divmod(step - self.first_step, self.config.minibatches)
        order = rng(self.config.seed, "minibatches", self.n_phases, epoch).permutation(self.config.n_rollouts)
        begin = part * self.config.n_rows + first
        return self.phase.batch(order[begin : begin + n_rows])

    def resumable_at(self, step: int) -> bool:
        """Whether the phase is over after `step` steps: at its end, or when the policy has moved too far from the
        rollouts it learns from.
        """
        moved = self.step_figures().get("kl_to_rollouts", 0.0)
        if self.config.max_kl is not None and moved > self.config.max_kl and step > self.first_step:
            self.next_step = min(self.next_step, step)
        return step >= self.next_step

    def should_stop(self, step: int) -> bool:
        """Whether the run ends after `step` steps: with the first phase whose completions were found further from
        the reference than `kl_limit`.
        """
        limit = self.config.kl_limit
        too_far = limit is not None and self.phase is not None and self.phase.figures["kl"] > limit
        return too_far and self.resumable_at(step)

    def step_figures(self) -> dict[str, float]:
        """Figures of the last step and of the phase it belongs to."""
        return self.figures.close_step() | (self.phase.figures if self.phase else {})

    def state(self) -> dict[str, Any]:
        """What a checkpoint at the end of a phase keeps."""
        return {
            "n_phases": self.n_phases,
            "next_step": self.next_step,
            "learning": self.learning.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken: with a new phase."""
        self.n_phases, self.phase = state["n_phases"], None
        self.first_step = self.next_step = state["next_step"]
        self.learning.load_state(state["learning"])

    def _begin(self, step: int) -> None:
        """Make the phase that begins with `step`. Nothing is changed when its rollouts or rewards fail."""
        started = time.perf_counter()
        config, number = self.config, self.n_phases
        rollouts, values = self.roll_out(self._asked(number), number)
        rewards = compute_rewards(self.reward, rollouts.samples)
        ended = rollouts.ended
        paid = rewards - config.truncation_penalty * ~ended
        phase = self.learning.phase(rollouts, paid, values)
        loss_mask = rollouts.rows.loss_mask
        estimate = kl_estimate(rollouts.log_probs, rollouts.reference_log_probs, "k1")
        kl = float(estimate[loss_mask].sum()) / len(rewards)
        self.learning.observe(kl)
        phase.figures.update(
            reward=float(rewards.mean()),
            reward_std=float(rewards.std()),
            kl=kl,
            length=float(loss_mask.sum()) / len(rewards),
            ended=float(ended.mean()),
            phase=number + 1,
            **reward_metrics(self.reward),
            **diversity_metrics(
                [row[said] for row, said in zip(rollouts.rows.target_ids, loss_mask, strict=True)]
            ),
        )
        self.phase, self.n_phases = phase, number + 1
        self.first_step, self.next_step = step, step + config.steps_per_phase
        self.seconds += time.perf_counter() - started

    def _asked(self, phase: int) -> list[RLPrompt]:
        """The prompts of a phase: the next ones in an order that is drawn anew for each pass over them."""
        n, n_asked = len(self.prompts), self.config.rollout_prompts
        found: list[RLPrompt] = []
        place = phase * n_asked
        while len(found) < n_asked:
            epoch, begin = divmod(place + len(found), n)
            order = rng(self.config.seed, "prompts", epoch).permutation(n)
            found += [self.prompts[i] for i in order[begin : begin + n_asked - len(found)]]
        return found


def explained_variance(values: np.ndarray, returns: np.ndarray) -> float:
    """The share of the returns' variance that the values foresaw; 0 where nothing varied."""
    variance = float(returns.var())
    return 1 - float((returns - values).var()) / variance if variance > 0 else 0.0
