"""The summary of a build with its schema, and what is made of it: the HTML report, its charts, the model cards."""

__all__: list[str] = []
