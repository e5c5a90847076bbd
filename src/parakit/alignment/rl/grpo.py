"""Group-relative policy optimisation (Shao et al. 2024, section 4.1): PPO without a value head.

A completion's reward relative to the other completions of its prompt is the advantage of all its tokens; the KL penalty
is part of the loss. The two biases that Liu et al. (2025, "Dr. GRPO") found are optional: division by the group's
standard deviation (`divide_by_std`) and by each completion's length (`loss_norm`).

Shapes: N completions, T targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from parakit.alignment.config import GRPOConfig
from parakit.alignment.rl.advantages import group_advantages
from parakit.alignment.rl.batches import RolloutMicroBatch, StepMetrics
from parakit.alignment.rl.kl import KLController, kl_estimate
from parakit.alignment.rl.ppo import clipped_policy_loss, step_sums
from parakit.alignment.rl.rollout_source import ExperienceBatch
from parakit.alignment.rl.rollouts import Rollouts, log_probs_and_entropy
from parakit.model.heads import LanguageModel
from parakit.training.objectives.routing import with_router_loss


class GRPOObjective:
    """Clipped policy loss plus `kl_coef` times the KL estimate, weighted by token and summed."""

    def __init__(self, config: GRPOConfig, kl_controller: KLController) -> None:
        self.config, self.kl_controller, self.metrics = config, kl_controller, StepMetrics()

    def __call__(self, model: LanguageModel, batch: RolloutMicroBatch) -> Tensor:
        counted = batch.loss_mask
        log_probs, entropy, _ = log_probs_and_entropy(
            model, batch.input_ids, batch.target_ids, counted, batch.prefix_tree
        )
        old = batch.log_probs[counted].to(log_probs.dtype)
        advantages = batch.advantages[counted].to(log_probs.dtype)
        policy_loss, clipped = clipped_policy_loss(log_probs, old, advantages, self.config.clip_range)
        reference = batch.reference_log_probs[counted].to(log_probs.dtype)
        kl = kl_estimate(log_probs, reference, self.config.kl_estimator)
        loss = ((policy_loss + self.kl_controller.coefficient * kl) * batch.weights[counted]).sum()
        self.metrics.add(
            len(log_probs),
            **step_sums(log_probs, entropy, old, clipped),
            policy_loss=policy_loss.sum(),
            kl_loss=kl.sum(),
        )
        return with_router_loss(loss, model, batch.real_mask, batch.n_counted)


def token_weights(loss_mask: np.ndarray, loss_norm: str, max_new_tokens: int) -> np.ndarray:
    """(N, T) float32: the weight of each token's loss before the sum is divided by the number of completions
    (`completion`: 1 / its length, as in DeepSeekMath; `constant`: 1 / `max_new_tokens`, as in Dr. GRPO) or of tokens
    (`token`: 1, as in DAPO, Yu et al. 2025).
    """
    weights = loss_mask.astype(np.float32)
    if loss_norm == "completion":
        weights /= loss_mask.sum(1, keepdims=True)
    elif loss_norm == "constant":
        weights /= max_new_tokens
    return weights


class GRPO:
    """Turns rollouts and rewards into GRPO's experience. The KL coefficient is part of a checkpoint."""

    needs_values = False

    def __init__(self, config: GRPOConfig) -> None:
        self.config = config
        self.kl_controller = KLController(config.kl_coef, config.kl_target)

    def make_experience(self, rollouts: Rollouts, rewards: np.ndarray, values: np.ndarray) -> ExperienceBatch:
        """`rewards` (N,), those of one prompt consecutive."""
        config, loss_mask = self.config, rollouts.rows.loss_mask
        advantages, n_zero_variance = group_advantages(rewards, config.group_size, config.divide_by_std)
        by_token = np.where(loss_mask, advantages[:, None], 0.0).astype(np.float32)
        metrics = {
            "kl_coef": self.kl_controller.coefficient,
            "advantage_std": float(advantages.std()),
            "zero_variance_groups": n_zero_variance * config.group_size / len(rewards),
        }
        return ExperienceBatch(
            rollouts=rollouts,
            advantages=by_token,
            weights=token_weights(loss_mask, config.loss_norm, config.max_new_tokens),
            values=values,
            returns=values,
            normalize_by_tokens=config.loss_norm == "token",
            informative=None if self.kl_controller.coefficient else advantages != 0,
            metrics=metrics,
        )

    def update_kl(self, kl: float) -> None:
        """`kl`: of the phase just made, in nats a completion."""
        self.kl_controller.update(kl)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"kl_coef": self.kl_controller.coefficient}

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.kl_controller.coefficient = state["kl_coef"]
