"""GRPO with checked answers on stories that are harder than what tuning covered: with a sentence beside the point."""

from __future__ import annotations

from benchmarks.grpo_arithmetic.run import main

__all__ = ["main"]
