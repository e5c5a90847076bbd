"""What keeps a process in: a room of its own, Landlock, a filter of system calls, limits. Runs in the keeper, with
nothing but the standard library.
"""

__all__: list[str] = []
