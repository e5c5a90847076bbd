"""The page that looks inside a model: attention, behaviours, layers, words, two checkpoints."""

from __future__ import annotations

from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.look_inside.page import LookInsidePage


def build(context: StudioContext) -> None:
    """Build the page."""
    LookInsidePage(context.root)
