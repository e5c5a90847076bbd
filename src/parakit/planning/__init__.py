"""What a run will need before it starts. Knows shapes and counts only; nothing is built."""

from parakit.planning.time import choose_size

__all__ = ["choose_size"]
