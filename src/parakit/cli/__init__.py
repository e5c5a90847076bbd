"""The command line: one file a verb, each of which parses, calls and prints. Nobody imports this room."""

__all__: list[str] = []
