"""Learning from one's own completions: rollouts, rewards, advantages, and the methods that share them."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "GRPOObjective": "grpo",
        "OnPolicySource": "rollout_source",
        "OnlineConfig": "config",
        "PPOObjective": "ppo",
        "Prompt": "prompts",
        "Rollouts": "rollouts",
        "Sample": "prompts",
        "named_reward": "rewards",
        "online_config": "config",
    },
)

__all__ = [
    "GRPOObjective",
    "OnPolicySource",
    "OnlineConfig",
    "PPOObjective",
    "Prompt",
    "Rollouts",
    "Sample",
    "named_reward",
    "online_config",
]
