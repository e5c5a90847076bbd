"""Alignment: reward models, DPO, PPO, GRPO, best of n, constitutional training and red teaming."""
