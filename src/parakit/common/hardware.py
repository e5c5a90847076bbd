"""The machine and the versions of the libraries, for lineage files and benchmark results. Uses torch only where it is
loaded already.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# Of control groups of version 1 and 2: the files with the limit and the use, and what `memory.stat` calls kept files.
GROUP_FILES_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
GROUP_FILES_2 = ("memory.max", "memory.current", "inactive_file")
NO_LIMIT = 2**60  # bytes: control groups without a limit have a number above it


def parakit_version() -> str:
    """The installed version of Parakit."""
    try:
        return metadata.version("parakit")
    except metadata.PackageNotFoundError:
        return "0.0.0+uninstalled"


def n_cores() -> int:
    """Cores that this process may use, limited by containers and taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_hardware() -> dict[str, object]:
    """Processor, cores, memory in GiB, and the accelerator where torch is loaded and finds one."""
    hardware: dict[str, object] = {"processor": _processor(), "cores": n_cores(), "system": platform.system()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        hardware["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        hardware["accelerator"] = torch.cuda.get_device_name()
    return hardware


def versions() -> dict[str, str]:
    """Versions of Python, Parakit and the libraries that its results depend on."""
    found = {"python": platform.python_version(), "parakit": parakit_version()}
    for name in ("torch", "tokenizers", "tiktoken", "numpy", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def available_memory() -> int | None:
    """Bytes that this process may still take: what the system has left, within the limits of its control groups, which
    containers and Slurm set, and those of `ulimit`. None where nothing is known.
    """
    found = [*_left_in_groups(), *_left_by_ulimit()]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    return min(found) if found else None


def resident_memory() -> int:
    """Bytes of this process that are in memory now; 0 where the system does not tell."""
    return _own_status("VmRSS")


def peak_memory() -> int:
    """The most bytes that this process held at once, since its start or the last `reset_peak_memory`."""
    if found := _own_status("VmHWM"):
        return found
    import resource  # Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on, where the system allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _own_status(key: str) -> int:
    """A figure of /proc/self/status in bytes; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0


def _left_in_groups(
    listed: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """What each limit of the process's control groups and their parents leaves. What the system keeps of files that were read
    counts as used there, though it is given up first.
    """
    try:
        lines = listed.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            top, (limit, used, cached) = root / "memory", GROUP_FILES_1
        elif not controllers:
            top, (limit, used, cached) = root, GROUP_FILES_2
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *(one for one in group.parents if one.is_relative_to(top))):
            maximum, current = _read_number(folder / limit), _read_number(folder / used)
            if maximum is not None and current is not None and maximum < NO_LIMIT:
                yield max(0, maximum - max(0, current - _read_figure(folder / "memory.stat", cached)))


def _left_by_ulimit() -> Iterator[int]:
    """What the limits on memory for data and on addresses leave."""
    try:
        import resource  # Unix only
    except ImportError:
        return
    for kind, key in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and limit < NO_LIMIT:
            yield max(0, limit - _own_status(key))


def _read_figure(path: Path, key: str) -> int:
    """The number after `key` in a file of lines; 0 without one."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _read_number(path: Path) -> int | None:
    """The number in a file; None without one ("max")."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
