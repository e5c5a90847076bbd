"""Compiling the kernels at first use: a shared library for inference and one for training, of each state of the sources,
compiler and processor, in the cache folder. They are two because the one of training compiles in a fifth of the time.

The compiler writes under a temporary name, and the library is renamed when a process of its own has loaded it and
multiplied a matrix: a library with instructions that this machine refuses never gets its name. Two processes at once
compile twice, and either result is good. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from parakit.common.files import cache_folder
from parakit.common.progress import log

SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("g++", "clang++", "c++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-w")
# the first that works: all that the processor has; what nearly all have; the compiler's default
TARGETS = {
    "x86": (("-march=native",), ("-mavx2", "-mfma", "-mf16c"), ()),
    "other": (("-mcpu=native",), ()),
}
COMPILE_TAKES = {"inference": "some ten seconds", "training": "some seconds"}
COMPILE_SECONDS, PROBE_SECONDS = 300, 60
# Each loads a library and computes with it: an illegal instruction or another layout ends this process, not the caller.
PROBES = {
    "inference": """
import ctypes, sys
sys.path.insert(0, sys.argv[2])
import layout
library = ctypes.CDLL(sys.argv[1])
sizes = (ctypes.c_int32 * 8)()
library.parakit_sizes(sizes)
assert list(sizes[:7]) == [ctypes.sizeof(each) for each in layout.STRUCTURES], list(sizes)
n, ones = 96, {layout.FP32: b"\\0\\0\\x80\\x3f", layout.BF16: b"\\x80\\x3f", layout.INT8: b"\\1"}
x, y, scales = (ctypes.c_float * n)(*[1.0] * n), (ctypes.c_float * 8)(), (ctypes.c_float * 8)(*[1.0] * 8)
for kind, one in ones.items():
    data = ctypes.create_string_buffer(one * (n * 8))
    w = layout.Weight(kind, 8, n, 0, ctypes.addressof(data), ctypes.addressof(scales))
    library.parakit_matmul(ctypes.byref(w), x, ctypes.c_int64(1), y, 2)
    assert all(abs(value - n) < 0.01 for value in y), (kind, list(y))
""",
    "training": """
import ctypes, sys
library, n = ctypes.CDLL(sys.argv[1]), 96
twos, y, inverse = (ctypes.c_float * n)(*[2.0] * n), (ctypes.c_float * n)(), (ctypes.c_float * 1)()
library.parakit_rms_norm(twos, twos, ctypes.c_float(0), ctypes.c_int64(1), n, y, inverse, 2)
assert all(abs(value - 2) < 1e-5 for value in y) and abs(inverse[0] - 0.5) < 1e-5, (list(y), inverse[0])
""",
}


class BuildError(Exception):
    """No library; the message says why, in one line."""


def build_library(part: str) -> Path:
    """The path of the compiled kernels of "inference" or "training". Raises `BuildError` where there is no compiler, or none
    that works.
    """
    compiler = os.environ.get("CXX") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None or shutil.which(compiler) is None:
        raise BuildError("no C++ compiler was found (g++ or clang++)")
    name = f"{part}-{_fingerprint(compiler)}.so"
    folder = cache_folder() / "kernels"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_file():
            return folder / name
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="parakit-kernels-"))  # this process only
    log(f"compiling the CPU kernels of {part}: once on this machine, {COMPILE_TAKES[part]}")
    return _compile(part, compiler, folder / name)


def _compile(part: str, compiler: str, path: Path) -> Path:
    """Compile for the best target that works, and put the library at `path`."""
    failure = "it was not tried"
    for target in TARGETS["x86" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "other"]:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        try:
            source = str(SOURCES / f"{part}.cpp")
            _run([compiler, *FLAGS, *target, source, "-o", temporary], COMPILE_SECONDS)
            _run([sys.executable, "-c", PROBES[part], temporary, str(Path(__file__).parent)], PROBE_SECONDS)
            os.chmod(temporary, 0o755)
            os.replace(temporary, path)
            return path
        except BuildError as error:
            failure = str(error)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    raise BuildError(f"{compiler} made no library that works: {failure}")


def _run(command: list[str], seconds: float) -> None:
    """Run a command; `BuildError` with its last line where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise BuildError(errors[0] if errors else f"{Path(command[0]).name} ended with {done.returncode}")


def _fingerprint(compiler: str) -> str:
    """Of all that decides about the library: sources, flags, compiler and processor."""
    digest = hashlib.sha256(repr((FLAGS, TARGETS, platform.machine(), sys.platform)).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    path = shutil.which(compiler)
    assert path is not None
    stat = os.stat(path)
    digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    digest.update(_processor().encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """The processor's features, as the system lists them."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(("flags", "Features")):
                return " ".join(sorted(line.split()))
    return platform.processor()
