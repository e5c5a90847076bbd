"""`python -m benchmarks NAME [ARGUMENTS]`: run one benchmark; without a name, list them."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from parakit.common.settings import nearest

_NOT_BENCHMARKS = {"__init__", "__main__", "harness", "table"}


def names() -> dict[str, str]:
    """The benchmarks, each with the first line of its docstring."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in _NOT_BENCHMARKS:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docstring.partition("\n")[0]
    return found


def main(words: list[str]) -> int:
    """Run the named benchmark; 2 when there is none of that name."""
    known = names()
    if not words or words[0] not in known:
        if words:
            close = nearest(words[0], known)
            print(
                f"no benchmark is called {words[0]!r}" + (f"; did you mean {close}?" if close else ""),
                file=sys.stderr,
            )
        print("benchmarks (make bench NAME=...):", file=sys.stderr)
        for name, line in known.items():
            print(f"  {name:24} {line}", file=sys.stderr)
        return 2
    importlib.import_module(f"benchmarks.{words[0]}").main(words[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
