"""The page of models: what is below the studio's folder, and how each was made."""

from __future__ import annotations

from nicegui import ui

from parakit.serving.studio.context import StudioContext


def build(context: StudioContext) -> None:
    """List what is below the folder."""
    ui.label(f"Folder: {context.root}")
