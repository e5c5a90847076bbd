"""The page of training: curves of runs, their comparison, and the queue of builds."""

from __future__ import annotations

from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.training.page import TrainingPage


def build(context: StudioContext) -> None:
    """Build the page."""
    TrainingPage(context.root)
