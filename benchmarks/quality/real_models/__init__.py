"""The two small published models of `make real-models`, through every command and through a tuning with default settings."""

__all__: list[str] = []
