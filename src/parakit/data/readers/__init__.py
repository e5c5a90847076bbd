"""Readers of files and folders: text and rows, with a report of what is skipped."""

__all__: list[str] = []
