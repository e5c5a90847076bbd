"""Virtual environments of the projects that Parakit is compared with, under .peers/ (or $PARAKIT_PEERS), made when first
needed.

A peer whose pinned version is installed where the benchmark runs is used from there, so that both sides
share one torch. `python -m benchmarks.speed.peers.peers NAME` makes an environment by hand and prints its
interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from benchmarks.harness import ROOT
from parakit.common.errors import UserError

PEERS_DIR = Path(os.environ.get("PARAKIT_PEERS") or ROOT / ".peers")
PEERS = {
    "transformers": ["transformers==5.23.0", "torch==2.13.0", "numpy"],
    "llama": ["llama-cpp-python==0.3.36"],  # built from source: about ten minutes
    "gensim": ["gensim==4.4.0", "numpy"],
    "litgpt": ["litgpt==0.5.13", "torch==2.13.0", "numpy"],
    "trl": ["trl==1.16.0", "transformers==5.23.0", "torch==2.13.0", "numpy"],
}


def python_of(name: str) -> Path:
    """The interpreter that has the peer `name` at its pinned version; installs it when it is nowhere."""
    if name not in PEERS:
        raise UserError(f"no peer is called {name!r}", f"known: {', '.join(PEERS)}")
    if _is_here(PEERS[name][0]):
        return Path(sys.executable)
    folder = PEERS_DIR / name
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = "\n".join(PEERS[name])
    stamped = stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted
    if not stamped and not is_installed(name):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def is_installed(name: str) -> bool:
    """Whether the peer's environment has it at its pinned version, however that was made."""
    python, (package, _, version) = PEERS_DIR / name / "bin" / "python", PEERS[name][0].partition("==")
    if not python.exists():
        return False
    question = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def _is_here(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    print(python_of(sys.argv[1] if len(sys.argv) > 1 else "transformers"))
