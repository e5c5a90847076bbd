"""Proximal policy optimisation (Schulman et al. 2017), as it is used on language models (Ziegler et al. 2019;
Ouyang et al. 2022).

The reward stands at a completion's last token; every token pays for its distance from the reference. What is
better than the value head expected becomes an advantage, the ratio of probabilities is clipped (eq. 7), and so is
the value head's step.

Shapes: N completions, T targets, C counted targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.alignment.rl.advantages import (
    RunningMoments,
    generalised_advantages,
    token_rewards,
    whitened,
)
from parakit.alignment.rl.batches import RolloutMicroBatch, StepMetrics
from parakit.alignment.rl.config import OnlineConfig
from parakit.alignment.rl.kl import KLController, kl_estimate
from parakit.alignment.rl.rollout_source import ExperienceBatch, explained_variance
from parakit.alignment.rl.rollouts import Rollouts, counted_log_probs
from parakit.model.heads import ActorCritic
from parakit.training.objectives.routing import with_router_loss


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """The loss at each token (C,), and where clipping took the gradient away (C,) (Schulman et al. 2017, eq. 7)."""
    ratio = (log_probs - old_log_probs).exp()
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return -torch.minimum(plain, clipped), clipped < plain


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, value_clip_range: float
) -> Tensor:
    """Half the squared error at each token (C,), of the value or of the clipped one, whichever is worse."""
    clipped = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
    return torch.maximum((values - returns) ** 2, (clipped - returns) ** 2) / 2


class PPOObjective:
    """Clipped policy loss and `value_coef` times the clipped value loss, summed over counted tokens."""

    def __init__(self, config: OnlineConfig) -> None:
        self.config, self.figures = config, StepMetrics()

    def __call__(self, model: ActorCritic, batch: RolloutMicroBatch) -> Tensor:
        counted = batch.loss_mask
        log_probs, logs, hidden = counted_log_probs(
            model, batch.input_ids, batch.target_ids, counted, batch.branched
        )
        old = batch.log_probs[counted].to(log_probs.dtype)
        advantages = batch.advantages[counted].to(log_probs.dtype)
        policy_loss, cut = clipped_policy_loss(log_probs, old, advantages, self.config.clip_range)
        values = model.values(hidden).to(log_probs.dtype)
        value_loss = clipped_value_loss(
            values, batch.values[counted], batch.returns[counted], self.config.value_clip_range
        )
        weights = batch.weights[counted]
        loss = ((policy_loss + self.config.value_coef * value_loss) * weights).sum()
        self.figures.add(
            len(log_probs),
            **step_sums(log_probs, logs, old, cut),
            policy_loss=policy_loss.sum(),
            value_loss=value_loss.sum(),
        )
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)  # type: ignore[arg-type]


@torch.no_grad()
def step_sums(log_probs: Tensor, logs: Tensor, old: Tensor, cut: Tensor) -> dict[str, Tensor]:
    """Sums over counted tokens of what every clipped objective is watched by. `kl_to_rollouts` is the nats
    between the policy that spoke and the policy now, along what the former said (k3).
    """
    return {
        "kl_to_rollouts": kl_estimate(old, log_probs, "k3").sum(),
        "clipped": cut.sum(),
        "entropy": -(logs.exp() * logs).sum(),
    }


class PPO:
    """Makes of rollouts and rewards what PPO learns from. Keeps the running moments of the rewards and the leash's
    coefficient; both are part of a checkpoint.
    """

    needs_values = True

    def __init__(self, config: OnlineConfig) -> None:
        self.config = config
        self.moments = RunningMoments()
        self.kl_controller = KLController(config.kl_coef, config.kl_target)

    def phase(self, rollouts: Rollouts, rewards: np.ndarray, values: np.ndarray) -> ExperienceBatch:
        """`rewards` (N,), `values` (N, T) as the policy that spoke expected them."""
        config, loss_mask = self.config, rollouts.rows.loss_mask
        if config.whiten_rewards:
            self.moments.add(rewards)
            rewards = self.moments.scaled(rewards)
        estimate = kl_estimate(rollouts.log_probs, rollouts.reference_log_probs, config.kl_estimator)
        by_token = token_rewards(rewards, loss_mask, -self.kl_controller.coefficient * estimate)
        expected = values.astype(np.float64)
        advantages, returns = generalised_advantages(
            by_token, expected, loss_mask, config.discount, config.gae_lambda
        )
        figures = {
            "kl_coef": self.kl_controller.coefficient,
            "advantage_std": float(advantages[loss_mask].std()),
            "explained_variance": explained_variance(expected[loss_mask], returns[loss_mask]),
        }
        return ExperienceBatch(
            rollouts=rollouts,
            advantages=whitened(advantages, loss_mask).astype(np.float32),
            weights=loss_mask.astype(np.float32),
            values=values,
            returns=returns.astype(np.float32),
            normalize_by_tokens=True,
            figures=figures,
        )

    def observe(self, kl: float) -> None:
        """The nats a completion of the phase just made."""
        self.kl_controller.observe(kl)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"moments": vars(self.moments).copy(), "kl_coef": self.kl_controller.coefficient}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        vars(self.moments).update(state["moments"])
        self.kl_controller.coefficient = state["kl_coef"]
