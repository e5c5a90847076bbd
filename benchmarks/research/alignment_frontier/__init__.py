"""Reward against divergence for PPO, DPO, GRPO and best of n, on a task whose true reward is known."""
