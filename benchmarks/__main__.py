"""`python -m benchmarks NAME [ARGUMENTS]`: run one benchmark; without a name, list them."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from parakit.common.settings import closest_match

_NOT_BENCHMARKS = {"__main__", "harness", "table", "peers"}


def names() -> dict[str, str]:
    """The benchmarks, files and folders, each with the first line of its docstring."""
    found = {}
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.glob("*/__init__.py")]):
        name = path.parent.name if path.stem == "__init__" else path.stem
        if path != here / "__init__.py" and name not in _NOT_BENCHMARKS:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[name] = docstring.partition("\n")[0]
    return dict(sorted(found.items()))


def main(words: list[str]) -> int:
    """Run the named benchmark; 2 when there is none of that name."""
    known = names()
    if not words or words[0] not in known:
        if words:
            close = closest_match(words[0], known)
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
