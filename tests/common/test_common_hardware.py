"""What a process may still take of memory, under the limits of containers, job schedulers and `ulimit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parakit.common.hardware import _left_in_groups, available_memory

GIB = 2**30


def group(folder: Path, version: int, limit: int | None, used: int, cached: int = 0) -> None:
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if version == 1
        else ("memory.max", "memory.current")
    )
    folder.mkdir(parents=True, exist_ok=True)
    unlimited = "9223372036854771712" if version == 1 else "max"
    (folder / names[0]).write_text(unlimited if limit is None else str(limit))
    (folder / names[1]).write_text(f"{used}\n")
    prefix = "total_" if version == 1 else ""
    (folder / "memory.stat").write_text(f"cache 5\n{prefix}inactive_file {cached}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_least_of_all_groups_counts_without_what_files_left(version: int, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    top = root / "memory" if version == 1 else root
    group(top, version, None, 90 * GIB)
    group(top / "slurm", version, 64 * GIB, 10 * GIB)
    group(top / "slurm/job_7", version, 4 * GIB, 3 * GIB, cached=2 * GIB)
    listed = tmp_path / "self"
    lines = "3:cpuset:/\n4:memory:/slurm/job_7\n" if version == 1 else "0::/slurm/job_7\n"
    listed.write_text(lines)
    assert sorted(_left_in_groups(listed, root)) == [3 * GIB, 54 * GIB]


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    """Its path is that of the machine, which is not there."""
    group(tmp_path / "cgroup/memory", 1, 2 * GIB, 1 * GIB)
    listed = tmp_path / "self"
    listed.write_text("4:memory:/docker/0f3a\n")
    assert list(_left_in_groups(listed, tmp_path / "cgroup")) == [GIB]
    assert list(_left_in_groups(tmp_path / "missing", tmp_path)) == []


@pytest.mark.parametrize(("kind", "limit"), [("RLIMIT_DATA", GIB), ("RLIMIT_AS", 2 * GIB)])
def test_a_limit_of_the_shell_counts(kind: str, limit: int) -> None:
    pytest.importorskip("resource")
    program = (
        f"import resource; resource.setrlimit(resource.{kind}, ({limit}, {limit}));"
        "from parakit.common.hardware import available_memory; print(available_memory())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    whole = available_memory()
    assert whole is not None
    assert 0.3 * limit < int(found.stdout) < min(limit, whole)
