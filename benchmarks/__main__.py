"""`python -m benchmarks NAME [OPTIONS]`: run one benchmark and write its result; without a name, list them."""

from __future__ import annotations

import sys

import tyro

from benchmarks import harness, registry
from parakit.common.settings import closest_match


def main(words: list[str]) -> int:
    """Run the named benchmark. Status 2 when there is none of that name, 1 when a target is missed."""
    known = registry.listings()
    if not words or words[0] not in known:
        if words:
            close = closest_match(words[0], known)
            print(
                f"no benchmark is called {words[0]!r}" + (f"; did you mean {close}?" if close else ""),
                file=sys.stderr,
            )
        print("benchmarks (make bench NAME=...):", file=sys.stderr)
        for group in registry.GROUPS:
            print(f"{group}:", file=sys.stderr)
            lines = [f"  {one.name:24} {one.summary}" for one in known.values() if one.group == group]
            print("\n".join(lines), file=sys.stderr)
        return 2
    benchmark = registry.load(words[0])
    figures = tyro.cli(
        benchmark.run, args=words[1:], prog=f"make bench NAME={words[0]}", description=known[words[0]].summary
    )
    result = harness.report(benchmark.name, figures, benchmark.targets)
    return 1 if result["met"] is False else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
