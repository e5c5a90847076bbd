"""What reward PPO, DPO, GRPO and best of n gain at what distance from the start, on a task whose true reward is known."""

from __future__ import annotations

from benchmarks.alignment_frontier.run import main

__all__ = ["main"]
