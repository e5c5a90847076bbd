"""The page of data: documents, conversations and pairs."""

from __future__ import annotations

from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.corpora.page import DataPage


def build(context: StudioContext) -> None:
    """Build the page."""
    DataPage(context.root)
