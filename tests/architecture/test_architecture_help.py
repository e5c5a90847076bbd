"""`parakit --help` is quick because it imports little, and every torch-free file really is torch-free."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import command_line
from import_rules import TORCH_FREE
from package import SRC, python_files

HEAVY = {"torch", "transformers", "tokenizers", "tiktoken", "pyarrow", "tensorboardX"}
MAX_SECONDS = 0.5
MAX_MODULES = 900  # tyro with pydantic and rich takes about 600; torch alone brings 1,000 more


def test_help_imports_neither_torch_nor_transformers() -> None:
    loaded = command_line.modules_loaded_by_help(())
    assert loaded & HEAVY == set()
    assert len(loaded) < MAX_MODULES


def test_no_verbs_help_imports_torch_or_transformers() -> None:
    words = [(verb,) for verb in command_line.verbs()]
    assert words
    assert command_line.modules_loaded_by_help(*words) & {"torch", "transformers"} == set()


def test_help_answers_within_half_a_second() -> None:
    # Processor time, the best of up to twenty tries: other work on the machine cannot fail it, a new heavy
    # import does.
    best = min(command_line.help_seconds() for _ in range(5))
    for _ in range(15):
        if best <= MAX_SECONDS:
            break
        best = min(best, command_line.help_seconds())
    assert best <= MAX_SECONDS, f"parakit --help takes {best:.2f} s at best; look with python -X importtime"


def test_settings_and_torch_free_packages_do_not_import_torch() -> None:
    configs = [path for path in python_files(SRC) if path.name == "config.py"]
    torch_free = [path for package in sorted(TORCH_FREE - {"cli"}) for path in python_files(SRC / package)]
    names = {_module(path) for path in [*configs, *torch_free]}
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name + ' imports torch'\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sorted(names))], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr.splitlines()[-1]


def test_packages_can_be_imported_without_torch() -> None:
    packages = sorted(path.parent.name for path in SRC.glob("*/__init__.py"))
    code = (
        "import importlib, sys\n"
        "for package in sys.argv[1:]:\n"
        "    importlib.import_module('parakit.' + package)\n"
        "print('torch' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *packages], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.strip() == "False"


def test_the_probe_sees_an_import_of_torch() -> None:
    assert importlib.util.find_spec("torch")
    code = "import sys, torch; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "True"
    )


def _module(path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
