"""The sides of comparisons: one program a side, each run in a process of its own, and the environments of
peers.
"""

__all__: list[str] = []
