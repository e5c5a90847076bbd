"""Rows of files, whatever the file's format, and the shapes in which conversations and instructions come."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__, {"numbered_lines": "files", "read_json_lines": "files", "read_records": "files"}
)

__all__ = ["numbered_lines", "read_json_lines", "read_records"]
