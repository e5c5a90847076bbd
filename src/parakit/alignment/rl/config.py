"""What a method that learns from its own completions needs to know, with nothing left open. Imports no torch.

`online_config` fills what a person left open with the method's defaults and refuses what cannot be meant.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from parakit.alignment.config import READ_BY, AlignConfig
from parakit.common.errors import UserError
from parakit.common.settings import Config

OnlineMethod = Literal["ppo", "grpo", "best_of_n"]

_SHARED: dict[str, Any] = {"max_new_tokens": 64, "temperature": 1.0, "top_p": 1.0, "truncation_penalty": 0.0}
_DEFAULTS: dict[OnlineMethod, dict[str, Any]] = {
    "ppo": {
        "group_size": 1,
        "rollout_prompts": 128,
        "minibatches": 4,
        "ppo_epochs": 2,
        "kl_coef": 0.05,
        "kl_estimator": "k1",
        "value_coef": 0.1,
        "whiten_rewards": True,
    },
    "grpo": {
        "group_size": 8,
        "rollout_prompts": 16,
        "minibatches": 2,
        "ppo_epochs": 1,
        "kl_coef": 0.04,
        "kl_estimator": "k2",
        "divide_by_std": True,
        "loss_norm": "completion",
    },
    "best_of_n": {"group_size": 16},
}


class OnlineConfig(Config):
    """The settings of `AlignConfig` that belong to rollouts and to learning from them."""

    method: OnlineMethod
    group_size: int
    rollout_prompts: int = 1
    max_new_tokens: int
    temperature: float
    top_p: float
    truncation_penalty: float
    minibatches: int = 1
    ppo_epochs: int = 1
    clip_range: float = 0.2
    max_kl: float | None = None
    kl_coef: float = 0.0
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    kl_target: float | None = None
    kl_limit: float | None = None
    discount: float = 1.0
    gae_lambda: float = 0.95
    value_coef: float = 0.1
    value_clip_range: float = 0.2
    whiten_rewards: bool = True
    divide_by_std: bool = True
    loss_norm: Literal["completion", "token", "constant"] = "token"
    seed: int = Field(default=0, description="of sampling and of the order of rows")

    @property
    def n_rollouts(self) -> int:
        """Completions of one phase."""
        return self.rollout_prompts * self.group_size

    @property
    def n_rows(self) -> int:
        """Completions of one optimizer step."""
        return self.n_rollouts // self.minibatches

    @property
    def steps_per_phase(self) -> int:
        """Optimizer steps of one phase that is not ended early."""
        return self.minibatches * self.ppo_epochs


def online_config(config: AlignConfig, method: OnlineMethod) -> OnlineConfig:
    """`config` with the method's defaults where it is open; `UserError` where settings contradict each other."""
    settings = {name: getattr(config, name) for name in sorted(READ_BY[method])}
    given = {name: value for name, value in settings.items() if value is not None}
    found = OnlineConfig(method=method, seed=config.seed, **(_SHARED | _DEFAULTS[method] | given))
    if method == "grpo" and found.group_size < 2:
        raise UserError(
            f"group_size = {found.group_size}: grpo compares the completions of one prompt with each other",
            "ask for 4 to 16",
        )
    if method == "grpo" and found.kl_estimator == "k1" and found.kl_coef:
        raise UserError(
            "kl_estimator = k1: in a loss its gradient is zero on average, so it would be no penalty",
            "use k2, whose gradient is the divergence's own, or k3",
        )
    if method != "best_of_n" and found.n_rollouts % found.minibatches:
        raise UserError(
            f"minibatches = {found.minibatches}: does not divide the {found.n_rollouts} completions of a phase"
            f" (rollout_prompts = {found.rollout_prompts} times group_size = {found.group_size})",
            "choose a divisor, such as a power of two",
        )
    return found
