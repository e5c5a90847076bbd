"""The process in which the functions of a user's file run: it imports the file, and answers calls, one JSON line each.

What the functions print goes nowhere: the pipe of the results is another file. Started by `worker_client` as a program.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.functions import function_tool
from parakit.assistants.tools.tool import AgentTool, ToolBox
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

FOREVER = 3600.0  # seconds: the other process has the time limit


def main(path: str, max_result_chars: str) -> None:
    """Serve the functions of a file until the input ends."""
    calls, results = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    limits = ToolLimits(tool_timeout=FOREVER, max_result_chars=int(max_result_chars))
    try:
        tools = functions_of(_import(Path(path)))
        box = ToolBox(tools, limits)
    except UserError as error:
        _write(results, {"error": error.message, "hint": error.hint})
        return
    except BaseException as error:  # the file's own code may raise anything, SystemExit too
        _write(results, {"error": f"{path}: importing it raised {type(error).__name__}: {error}"})
        return
    rows = [tool.schema.to_row()["function"] | {"changes": tool.changes} for tool in tools]
    _write(results, {"tools": rows})
    for line in calls:
        call = json.loads(line)
        result = box.call(call["name"], json.dumps(call["arguments"]))
        _write(
            results,
            {"text": result.text, "is_error": result.is_error, "n_omitted_chars": result.n_omitted_chars},
        )


def functions_of(module: ModuleType) -> list[AgentTool]:
    """The public functions that a module defines, as tools. `UserError` where there is none."""
    found = [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == module.__name__
    ]
    if not found:
        raise UserError(
            f"{module.__file__}: defines no function",
            "write `def NAME(argument: str) -> str:` with a docstring",
        )
    return [function_tool(function) for function in found]


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is no Python file", "give a file whose name ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _write(results: IO[str], row: JsonObject | dict[str, Any]) -> None:
    results.write(json.dumps(row) + "\n")
    results.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
