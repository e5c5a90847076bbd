"""An agent: a model that calls tools in a loop with limits, and the record of what it did."""

__all__: list[str] = []
