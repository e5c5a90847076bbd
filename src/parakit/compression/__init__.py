"""Compression: smaller and faster models that keep what a larger one knows."""

__all__: list[str] = []
