"""Asking the command line about itself: help texts by verb, in this process, and a fresh process for what an
import costs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import resource
import subprocess
import sys
from unittest import mock

from package import SRC

_MAIN = "from parakit.cli.main import main"
_PROBE = f"""
import contextlib, io, json, sys
{_MAIN}
for words in json.loads(sys.argv[1]):
    sys.argv = ["parakit", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
print(json.dumps(sorted(sys.modules)))
"""


def exists() -> bool:
    """Whether the package has a command line yet."""
    return (SRC / "cli" / "main.py").is_file()


@functools.cache
def help_of(verb: tuple[str, ...]) -> str | None:
    """The help text of a verb, or None when the command line refuses it."""
    from parakit.cli.main import main

    out = io.StringIO()
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["parakit", *verb, "--help"]),
        mock.patch.dict(os.environ, {"COLUMNS": "240", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            code = main()
        except SystemExit as stopped:
            code = stopped.code
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()) if code in (0, None) else None


def verbs() -> list[str]:
    """The verbs that the top help lists: words that `parakit WORD --help` accepts."""
    words = sorted(set(re.findall(r"^[\s│|]*([a-z][a-z-]+)\b", help_of(()) or "", re.M)))
    return [word for word in words if help_of((word,)) is not None]


def modules_loaded_by_help(*words: tuple[str, ...]) -> set[str]:
    """Names of all modules that a fresh process holds after printing the help of each verb in `words`."""
    run = subprocess.run(
        [sys.executable, "-c", _PROBE, json.dumps(words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def help_seconds() -> float:
    """Processor seconds (user and system) that one `parakit --help` in a fresh process takes: waiting for
    others does not count.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = f"import sys; {_MAIN}; sys.argv = ['parakit', '--help']; main()"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
