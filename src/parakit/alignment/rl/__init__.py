"""Reinforcement learning on a policy's own completions: rollouts, rewards, advantages, PPO, GRPO, best of n."""
