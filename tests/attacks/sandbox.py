"""The sandbox under attack, and right programs in it.

    python -m tests.attacks.sandbox [--n N] [--seed S]

escapes: the tables of `tests/sandbox/escapes.py`, and N system calls outside the filter's list with arguments drawn at random
and N files and folders of this machine, under each kind of isolation. cheats: the table of `tests/sandbox/cheats.py`, and N
programs that write drawn bytes, forged replies among them, to the pipes. right: N solutions of HumanEval and MBPP, unchanged,
with something in front of them and with other line ends; skipped without the public data (`PARAKIT_DATA`). Prints how many of
each, what got out or passed or failed, and ends with status 1 after a violation.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.sandbox import Limits, SandboxError, UnitTests, parse_tests, run_tests_of_many
from parakit.sandbox.fork_server import ForkServer
from parakit.sandbox.isolation import seccomp
from parakit.sandbox.isolation.kernel import architecture
from parakit.sandbox.pool import KINDS
from parakit.sandbox.running import run_on
from tests.sandbox.cheats import CHEATS, HONEST, TESTS
from tests.sandbox.escapes import PROGRAM, TOGETHER
from tests.sandbox.test_sandbox_right_programs import ENDS, FRONTS

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("PARAKIT_DATA") or ROOT / "shared" / "data")
BATCH = 200  # attempts in one process
# uretprobe and uprobe on x86_64: newer kernels (6.14) let no filter see them; outside a probe they end the caller or fail
UNFILTERED = (335, 336)
ROOTS = ("/etc", "/home", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/usr", "/var", "/work")


def escapes(kind: str, n: int, seed: int) -> tuple[int, list[str]]:
    """The number of attempts under one kind of isolation, and what got out. `SandboxError` where there is no such kind."""
    server = ForkServer(kind)
    generator = rng(seed, "escapes", kind)
    attempts = [
        (name, code, category == "system calls")
        for category in TOGETHER
        for name, code in TOGETHER[category].items()
    ]
    attempts += [(code, code, True) for code in _system_calls(generator, n)]
    attempts += [(f"read {path}", f"os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}, 'rb').read(1)", False)
                 for path in _files(generator, n)]  # fmt: skip
    out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="parakit-attack-") as folder:
        canary = Path(folder, "canary")
        canary.write_text("nobody should see this")
        site = sysconfig.get_paths()["purelib"]
        given = {"canary": str(canary), "folder": folder, "pid": os.getpid(), "port": 9, "site": site,
                 "module": f"{site}/numpy/__init__.py"}  # fmt: skip
        for exact in (True, False):
            chosen = [(name, code) for name, code, is_exact in attempts if is_exact == exact]
            for start in range(0, len(chosen), BATCH):
                batch = dict(chosen[start : start + BATCH])
                message = json.dumps(given | {"exact": exact, "attempts": batch})
                run = run_on(server, PROGRAM, message, Limits(cpu_seconds=20, wall_seconds=120))
                try:
                    out += json.loads(run.stdout)
                except ValueError:
                    out.append(f"a batch ended with status {run.status}: {run.stderr[-200:]}")
        if sorted(os.listdir(folder)) != ["canary"]:
            out.append("something was written")
    server.close()
    return len(attempts), out


def _system_calls(generator: np.random.Generator, n: int) -> Iterator[str]:
    """Calls that the filter does not list, by number, with small, large and negative arguments."""
    column = architecture()
    tables = (seccomp._ALLOWED, {k: v[0] for k, v in seccomp._ALLOWED_WITH_ARGUMENT.items()},
              {k: v[0] for k, v in seccomp._OPENING.items()})  # fmt: skip
    allowed = {numbers[column] for table in tables for numbers in table.values()}
    others = [
        number for number in range(600) if number not in allowed | set(UNFILTERED if column == 0 else ())
    ]
    for number in generator.choice(others, n).tolist():
        arguments = generator.choice([-1, 0, 1, 2, 3, 7, 64, 4096, 1 << 20, 1 << 40, -100], 6).tolist()
        yield f"raw({number}, *{arguments})"


def _files(generator: np.random.Generator, n: int) -> list[str]:
    """Files and folders of this machine that this user can read and that are not of Python's library."""
    folders_of_library = {*sys.path, sysconfig.get_paths()["stdlib"]} - {""}
    library = sorted({os.path.realpath(folder) for folder in folders_of_library})
    found: list[str] = []
    for root in ROOTS:
        n_seen = 0
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(folders)[:40]
            paths = [os.path.join(folder, name) for name in sorted(files)[:40]]
            found += [
                path for path in (folder, *paths) if os.access(path, os.R_OK) and not os.path.islink(path)
            ]
            n_seen += 1 + len(paths)
            if n_seen > 5_000:
                break
    outside = [path for path in found if not _shows(os.path.realpath(path), library)]
    return [str(path) for path in generator.choice(sorted(set(outside)), min(n, len(outside)), replace=False)]


def _shows(path: str, library: list[str]) -> bool:
    """Whether a path is in a folder of the library, or on the way to one, which can be seen."""
    inside = tuple(f"{folder}/" for folder in library)
    way = f"{path.rstrip('/')}/"
    return way.startswith(inside) or any(folder.startswith(way) for folder in inside)


def cheats(programs: dict[str, str]) -> list[str]:
    """Which of these programs passed a test; also when an honest one no longer passes."""
    tests = parse_tests({**TESTS, "cpu_seconds": 1}, "here")
    results = run_tests_of_many([(code, tests) for code in programs.values()])
    passed = [name for name, result in zip(programs, results, strict=True) if result.n_passed]
    if run_tests_of_many([(HONEST, tests)])[0].outcome != "passed":
        passed.append("an honest program no longer passes")
    return passed


def drawn_cheats(n: int, seed: int) -> dict[str, str]:
    """Programs that write drawn replies to the pipes, when they begin or when they are called."""
    programs = {}
    for number in range(n):
        generator = rng(seed, "cheats", number)
        replies = [_reply(generator) for _ in range(int(generator.integers(1, 30)))]
        write = (
            f"import os\nfor reply in {replies!r}:\n    for f in {generator.integers(3, 9, 3).tolist()}:\n"
            + ("        try: os.write(f, reply)\n        except OSError: pass\n")
        )
        body = "    exec(write)\n    return None" if generator.random() < 0.5 else "    return None"
        before = write if generator.random() < 0.5 else ""
        programs[f"drawn {number}"] = f"write = {write!r}\n{before}\ndef add(*a, **k):\n{body}\norder = add\n"
    return programs


_VALUES = [
    "null",
    "true",
    "false",
    "7",
    '"ab7"',
    "1e999",
    "NaN",
    '{"int": "0x7"}',
    '{"type": "object"}',
    '{"bytes": "x"}',
]
_KINDS = [
    "list",
    "tuple",
    "set",
    "dict",
    "iterator",
    "Counter",
    "deque",
    "namedtuple",
    "range",
    "Fraction",
    "x",
]


def _reply(generator: np.random.Generator) -> bytes:
    """Bytes on the pipe: noise, or a message of values and nodes that may or may not fit together.

    No number that a test wants is among the values: to answer right is no cheat.
    """
    if generator.random() < 0.2:
        return generator.bytes(int(generator.integers(1, 40))) + b"\n"
    nodes = [str(generator.choice(['"returned"', '"raised"', '"passed"', '"invalid"']))]
    for _ in range(int(generator.integers(1, 5))):
        kind, n = generator.choice(_KINDS), int(generator.integers(-1, 4))
        nodes.append(
            str(generator.choice(_VALUES)) if generator.random() < 0.6 else json.dumps({str(kind): n})
        )
    end = '{"list": 2}' if generator.random() < 0.7 else '{"list": 3}'
    return f"[{', '.join([*nodes, end])}]".encode() + (b"\n" if generator.random() < 0.9 else b"")


def solutions(data: Path) -> Iterator[tuple[str, str, UnitTests]]:
    """Name, whole program and tests of every solution. `UserError` where tests cannot be read."""
    with gzip.open(data / "humaneval" / "HumanEval.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            source = {"check": row["test"], "entry_point": row["entry_point"], "setup": row["prompt"]}
            yield (
                row["task_id"],
                row["prompt"] + row["canonical_solution"],
                parse_tests(source, row["task_id"]),
            )
    with gzip.open(data / "mbpp" / "mbpp.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            source = {"asserts": row["test_list"], "setup": row["test_setup_code"], "cpu_seconds": 6}
            name = f"MBPP/{row['task_id']}"
            try:
                tests = parse_tests(source, name)
            except UserError:  # its function has the name of a built-in one
                function = row["test_list"][0].partition("(")[0].split()[-1]
                tests = parse_tests(source | {"entry_point": function}, name)
            yield name, row["code"], tests


def right(n: int, seed: int) -> tuple[int, dict[str, str]]:
    """The number of right programs, and the reasons of those that failed. Every solution comes unchanged where `n` is as
    large as that; then with what is drawn in front of it and at its line ends.
    """
    known = list(solutions(DATA))
    programs: dict[str, tuple[str, UnitTests]] = {}
    for number in range(n):
        name, code, tests = known[number % len(known)]
        generator = rng(seed, "right", number)
        front, end = ("nothing", "unix") if number < len(known) else (
            str(generator.choice(list(FRONTS))), str(generator.choice(list(ENDS)))
        )  # fmt: skip
        whole = FRONTS[front] + code.replace("\r\n", "\n")
        programs[f"{name}, {front}, {end} ({number})"] = (
            whole.replace("\n", ENDS[end]) if number >= len(known) else code,
            tests,
        )
    results = run_tests_of_many(list(programs.values()))
    return len(programs), {
        name: result.reason
        for name, result in zip(programs, results, strict=True)
        if result.outcome != "passed"
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attacks and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.sandbox")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    figures: dict[str, Any] = {}
    violations = 0
    for kind in KINDS:
        try:
            n, out = escapes(kind, given.n, given.seed)
        except SandboxError as error:
            print(f"escapes, {kind}: not on this machine: {error.message}")
            continue
        print(f"escapes, {kind}: {n:,} attempts, {len(out)} got out", *out[:20], sep="\n  ", flush=True)
        figures[f"escapes, {kind}"] = n
        violations += len(out)
    programs = CHEATS | drawn_cheats(given.n, given.seed)
    n, passed = len(programs), cheats(programs)
    print(f"cheats: {n:,} programs, {len(passed)} passed a test", *passed[:20], sep="\n  ", flush=True)
    figures["cheats"] = n
    violations += len(passed)
    if (DATA / "humaneval").is_dir() and (DATA / "mbpp").is_dir():
        n, failed = right(given.n, given.seed)
        reasons = [f"{name}: {reason}" for name, reason in failed.items()]
        print(f"right programs: {n:,}, {len(failed)} failed", *reasons[:40], sep="\n  ", flush=True)
        figures |= {"right": n, "right that failed": len(failed)}
    print(json.dumps(figures | {"violations": violations}))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
