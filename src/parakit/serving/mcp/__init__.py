"""Parakit for other assistants: its tools over the model context protocol (MCP)."""

__all__: list[str] = []
