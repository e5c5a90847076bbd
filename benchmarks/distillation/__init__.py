"""A student with 40 % fewer parameters against its teacher, and against itself without one: suites, tasks and speed."""

from __future__ import annotations

from benchmarks.distillation.run import main

__all__ = ["main"]
