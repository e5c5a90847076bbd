"""Tools of an agent: Python functions, built-in ones and those of MCP servers, each with a schema and bounds."""

__all__: list[str] = []
