"""Tools of an agent: Python functions, built-in ones and those of MCP servers, each with a schema and bounds."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AgentTool": "tool",
        "ToolBox": "tool",
        "ToolError": "tool",
        "function_tool": "functions",
        "read_only": "functions",
    },
)

__all__ = ["AgentTool", "ToolBox", "ToolError", "function_tool", "read_only"]
