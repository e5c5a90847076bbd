"""The isolation of one program, applied by the process that then runs it and never lifted: no privileges and none to be
gained, Landlock where the kernel has it, resource limits, and last the filter of system calls.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from parakit.sandbox.isolation import kernel, landlock
from parakit.sandbox.isolation.namespaces import mount_scratch
from parakit.sandbox.isolation.seccomp import install_filter
from parakit.sandbox.limits import Limits

OPEN_FILES = 32


@dataclass(frozen=True)
class IsolationSpec:
    """How to isolate a program: the folders of the standard library, whether the process is in namespaces of its own
    (`namespaces.py`), and the Landlock ruleset that makes those folders readable, None where the kernel has no Landlock.
    """

    folders: Sequence[str]
    in_namespaces: bool
    ruleset: int | None

    @classmethod
    def detect(cls, folders: Sequence[str], in_namespaces: bool) -> IsolationSpec:
        """With a ruleset where there is Landlock; `OSError` where nothing would protect files."""
        if landlock.version():
            return cls(folders, in_namespaces, landlock.readable(folders))
        if not in_namespaces:
            raise OSError("this kernel has no Landlock")
        return cls(folders, in_namespaces, None)


def apply_isolation(limits: Limits, spec: IsolationSpec) -> None:
    """From here on this process can compute, read the standard library and the files it has open, and little else. Root
    outside is nobody inside: by the user namespace, else by changing the user.
    `OSError` where a part cannot be applied; then no untrusted code may run in it.
    """
    assert spec.in_namespaces or spec.ruleset is not None, "nothing protects files"
    if limits.scratch_bytes and not spec.in_namespaces:
        raise OSError(
            "a scratch folder of bounded size needs namespaces, which this machine does not provide"
        )
    kernel.set_process(kernel.SET_NO_NEW_PRIVILEGES, 1)
    scratch = mount_scratch(limits.scratch_bytes) if limits.scratch_bytes else None
    if spec.ruleset is not None:
        landlock.restrict(landlock.readable(spec.folders, scratch) if scratch else spec.ruleset)
    if not spec.in_namespaces and os.geteuid() == 0:
        kernel.leave_root(spec.folders)
    kernel.drop_capabilities()
    _set_resource_limits(limits)
    install_filter(bool(scratch))


def _set_resource_limits(limits: Limits) -> None:
    bounds = {
        resource.RLIMIT_CPU: (limits.cpu_seconds, limits.cpu_seconds + 1),
        resource.RLIMIT_AS: (limits.memory_bytes, limits.memory_bytes),
        resource.RLIMIT_FSIZE: (limits.scratch_bytes, limits.scratch_bytes),
        resource.RLIMIT_NOFILE: (OPEN_FILES, OPEN_FILES),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
    }
    names = {getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")}
    for which, bound in bounds.items():
        try:
            resource.setrlimit(which, bound)
        except (OSError, ValueError) as error:
            raise OSError(f"setrlimit ({names[which]}): {error}") from None
