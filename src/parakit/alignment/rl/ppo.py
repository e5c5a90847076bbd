"""Proximal policy optimisation (Schulman et al. 2017), as used on language models (Ziegler et al. 2019; Ouyang et al. 2022).

The reward is at a completion's last token and every token pays the KL penalty. Advantages are relative to the value head
(GAE); the probability ratio (eq. 7) and the value head's change are clipped.

Shapes: N completions, T targets, C counted targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.alignment.config import PPOConfig
from parakit.alignment.rl.advantages import (
    RunningMoments,
    generalised_advantages,
    token_rewards,
    whitened,
)
from parakit.alignment.rl.batches import RolloutMicroBatch, StepMetrics
from parakit.alignment.rl.kl import KLController, kl_estimate
from parakit.alignment.rl.rollout_source import ExperienceBatch, explained_variance
from parakit.alignment.rl.rollouts import Rollouts, log_probs_and_entropy
from parakit.model.heads import ActorCritic
from parakit.training.objectives.routing import with_router_loss


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """The loss at each token (C,), and where clipping zeroes the gradient (C,) (Schulman et al. 2017, eq. 7)."""
    ratio = (log_probs - old_log_probs).exp()
    unclipped, clipped = ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return -torch.minimum(unclipped, clipped), clipped < unclipped


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, value_clip_range: float
) -> Tensor:
    """Half the squared error at each token (C,), of the value or of the clipped value, whichever is larger."""
    clipped = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
    return torch.maximum((values - returns) ** 2, (clipped - returns) ** 2) / 2


class PPOObjective:
    """Clipped policy loss and `value_coef` times the clipped value loss, summed over counted tokens."""

    def __init__(self, config: PPOConfig) -> None:
        self.config, self.metrics = config, StepMetrics()

    def __call__(self, model: ActorCritic, batch: RolloutMicroBatch) -> Tensor:
        counted = batch.loss_mask
        log_probs, entropy, hidden = log_probs_and_entropy(
            model, batch.input_ids, batch.target_ids, counted, batch.prefix_tree
        )
        old = batch.log_probs[counted].to(log_probs.dtype)
        advantages = batch.advantages[counted].to(log_probs.dtype)
        policy_loss, clipped = clipped_policy_loss(log_probs, old, advantages, self.config.clip_range)
        values = model.values(hidden).to(log_probs.dtype)
        value_loss = clipped_value_loss(
            values, batch.values[counted], batch.returns[counted], self.config.value_clip_range
        )
        weights = batch.weights[counted]
        loss = ((policy_loss + self.config.value_coef * value_loss) * weights).sum()
        self.metrics.add(
            len(log_probs),
            **step_sums(log_probs, entropy, old, clipped),
            policy_loss=policy_loss.sum(),
            value_loss=value_loss.sum(),
        )
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)


@torch.no_grad()
def step_sums(log_probs: Tensor, entropy: Tensor, old: Tensor, clipped: Tensor) -> dict[str, Tensor]:
    """Sums over counted tokens that every clipped objective logs. `kl_to_rollouts` is the KL of the rollouts' policy from
    the current one, in nats, along the rollouts (k3).
    """
    return {
        "kl_to_rollouts": kl_estimate(old, log_probs, "k3").sum(),
        "clipped": clipped.sum(),
        "entropy": entropy.sum(),
    }


class PPO:
    """Turns rollouts and rewards into PPO's experience. The rewards' running moments and the KL coefficient are part of a
    checkpoint.
    """

    needs_values = True

    def __init__(self, config: PPOConfig) -> None:
        self.config = config
        self.moments = RunningMoments()
        self.kl_controller = KLController(config.kl_coef, config.kl_target)

    def make_experience(self, rollouts: Rollouts, rewards: np.ndarray, values: np.ndarray) -> ExperienceBatch:
        """`rewards` (N,); `values` (N, T) of the value head at rollout time."""
        config, loss_mask = self.config, rollouts.rows.loss_mask
        if config.whiten_rewards:
            self.moments.add(rewards)
            rewards = self.moments.normalize(rewards)
        estimate = kl_estimate(rollouts.log_probs, rollouts.reference_log_probs, config.kl_estimator)
        by_token = token_rewards(rewards, loss_mask, -self.kl_controller.coefficient * estimate)
        old_values = values.astype(np.float64)
        advantages, returns = generalised_advantages(
            by_token, old_values, loss_mask, config.discount, config.gae_lambda
        )
        metrics = {
            "kl_coef": self.kl_controller.coefficient,
            "advantage_std": float(advantages[loss_mask].std()),
            "explained_variance": explained_variance(old_values[loss_mask], returns[loss_mask]),
        }
        return ExperienceBatch(
            rollouts=rollouts,
            advantages=whitened(advantages, loss_mask).astype(np.float32),
            weights=loss_mask.astype(np.float32),
            values=values,
            returns=returns.astype(np.float32),
            normalize_by_tokens=True,
            metrics=metrics,
        )

    def update_kl(self, kl: float) -> None:
        """`kl`: of the phase just made, in nats a completion."""
        self.kl_controller.update(kl)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"moments": vars(self.moments).copy(), "kl_coef": self.kl_controller.coefficient}

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        vars(self.moments).update(state["moments"])
        self.kl_controller.coefficient = state["kl_coef"]
