"""A room of its own for a keeper and all that it forks: user, mount, process, network, IPC, host-name and cgroup namespaces.

In the room there is an empty file system in memory with the standard library mounted read-only, no network device,
no /proc, and no process but the keeper, which is number 1, and its children: when it ends, the kernel ends them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from parakit.sandbox.isolation import kernel
from parakit.sandbox.isolation.landlock import FOREIGN

SCRATCH = "/tmp"
_STAGE, _OLD = "/tmp", "/old-root"  # any folder that is there serves as a place to build the new root on
_TINY = "size=256k,nr_inodes=1024,mode=755"
_SAFE = kernel.NO_SUID | kernel.NO_DEVICES


def enter_room(folders: Sequence[str]) -> None:
    """Go on as process 1 of a new room in which `folders` can be read at their usual paths. The process that called
    stays behind, waits, and ends as this one ends. `OSError` where the kernel gives no namespaces.
    """
    user, group = os.geteuid(), os.getegid()
    every = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_UTS
    kernel.system_call("unshare", kernel.NEW_USER | every | kernel.NEW_CGROUP)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/gid_map", f"65534 {group} 1")
    _write("/proc/self/uid_map", f"65534 {user} 1")
    if first := os.fork():
        os.closerange(0, 256)
        _, status = os.waitpid(first, 0)
        os._exit(abs(os.waitstatus_to_exitcode(status)))
    kernel.set_process(kernel.SET_DEATH_SIGNAL, signal.SIGKILL)
    _build(folders)


def mount_scratch(n_bytes: int) -> str:
    """A private `/tmp` of that size, for this process alone."""
    kernel.system_call("unshare", kernel.NEW_MOUNTS)
    inodes = 16 + n_bytes // 4096
    options = f"size={n_bytes},nr_inodes={inodes},mode=700"
    kernel.mount("scratch", SCRATCH, "tmpfs", _SAFE | kernel.NO_EXECUTION, options)
    os.chdir(SCRATCH)
    return SCRATCH


def _build(folders: Sequence[str]) -> None:
    sources = [(folder, os.path.realpath(folder)) for folder in folders]
    kernel.mount(None, "/", None, kernel.PRIVATE | kernel.RECURSIVE)
    kernel.mount("root", _STAGE, "tmpfs", _SAFE, _TINY)
    os.mkdir(_STAGE + _OLD)
    kernel.system_call("pivot_root", _STAGE, _STAGE + _OLD)
    os.chdir("/")
    for folder, source in sources:
        os.makedirs(folder, exist_ok=True)
        if not os.listdir(folder):  # else a folder around it was mounted before
            kernel.mount(_OLD + source, folder, None, kernel.BIND | kernel.RECURSIVE)
            _read_only(folder)
        for name in FOREIGN:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if os.path.isdir(f"{folder}/{name}"):
                    kernel.mount("nothing", f"{folder}/{name}", "tmpfs", _SAFE | kernel.READ_ONLY, "size=4k")
    os.makedirs(SCRATCH, exist_ok=True)
    kernel.system_call("umount2", _OLD, kernel.DETACH)
    os.rmdir(_OLD)
    _read_only("/")


def _read_only(path: str) -> None:
    """Remount; flags that a mount has from outside the room are locked and must be said again."""
    had = os.statvfs(path).f_flag
    kept = had & (kernel.NO_EXECUTION | 1024 | 2048)  # noatime and nodiratime bear the same numbers in both
    relatime = 1 << 21 if had & 4096 else 0
    flags = kernel.REMOUNT | kernel.BIND | kernel.READ_ONLY | _SAFE | kept | relatime
    kernel.mount(None, path, None, flags)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
