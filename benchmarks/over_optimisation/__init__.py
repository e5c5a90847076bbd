"""A policy that follows a learnt reward too far, what shows it, and the leashes that prevent it."""

from __future__ import annotations

from benchmarks.over_optimisation.run import main

__all__ = ["main"]
