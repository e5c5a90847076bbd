"""The walls around one program, raised by the process that then runs it and never taken down: no privileges, none to be
gained, Landlock where the kernel has it, limits of the kernel's accounting, and last the filter of system calls.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass

from parakit.sandbox.isolation import kernel, landlock
from parakit.sandbox.isolation.namespaces import mount_scratch
from parakit.sandbox.isolation.seccomp import install_filter
from parakit.sandbox.limits import Limits

OPEN_FILES = 32


@dataclass(frozen=True)
class Surroundings:
    """Where walls are raised: the folders of the standard library, whether in a room of its own (`rooms.py`), and the
    Landlock ruleset by which those folders can be read, None where the kernel has no Landlock.
    """

    folders: Sequence[str]
    in_room: bool
    ruleset: int | None

    @classmethod
    def found(cls, folders: Sequence[str], in_room: bool) -> Surroundings:
        """With a ruleset where there is Landlock; `OSError` where nothing would keep files apart."""
        if landlock.version():
            return cls(folders, in_room, landlock.readable(folders))
        if not in_room:
            raise OSError("this kernel has no Landlock")
        return cls(folders, in_room, None)


def raise_walls(limits: Limits, around: Surroundings) -> None:
    """From here on this process can compute, read the standard library and the files it has open, and little else.
    `OSError` where a wall cannot be raised; then nothing foreign may run in it.
    """
    assert around.in_room or around.ruleset is not None, "nothing keeps files apart"
    if limits.scratch_bytes and not around.in_room:
        raise OSError("a scratch folder of bounded size needs namespaces, which this machine does not give")
    kernel.set_process(kernel.SET_NO_NEW_PRIVILEGES, 1)
    scratch = mount_scratch(limits.scratch_bytes) if limits.scratch_bytes else None
    if around.ruleset is not None:
        landlock.restrict(landlock.readable(around.folders, scratch) if scratch else around.ruleset)
    kernel.drop_capabilities()
    _account(limits)
    install_filter(bool(scratch))


def _account(limits: Limits) -> None:
    bounds = {
        resource.RLIMIT_CPU: (limits.cpu_seconds, limits.cpu_seconds + 1),
        resource.RLIMIT_AS: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_FSIZE: (limits.scratch_bytes, limits.scratch_bytes),
        resource.RLIMIT_NOFILE: (OPEN_FILES, OPEN_FILES),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
    }
    for which, bound in bounds.items():
        resource.setrlimit(which, bound)
