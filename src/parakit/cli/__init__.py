"""The command line: one module per command, which parses arguments, calls the API and prints. No other package imports it."""

__all__: list[str] = []
