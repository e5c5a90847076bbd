"""Reports: the summary of a build with its schema, the HTML report with charts, and model cards."""

__all__: list[str] = []
