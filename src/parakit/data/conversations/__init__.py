"""Conversations: messages with roles, read from the usual formats, checked, and prepared as sets for fine-tuning."""

__all__: list[str] = []
