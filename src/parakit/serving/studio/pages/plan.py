"""The page of plans: what a run takes before it starts."""

from __future__ import annotations

from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.plans.page import PlanPage


def build(context: StudioContext) -> None:
    """Build the page."""
    PlanPage()
