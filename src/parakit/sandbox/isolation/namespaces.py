"""Namespaces for the fork server and all that it forks: user, mount, process, network, IPC, host-name and cgroup.

Inside there is an empty file system in memory with the standard library mounted read-only, no network device, no /proc,
and no process but the fork server, which is number 1, and its children: when it ends, the kernel ends them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

from parakit.sandbox.isolation import kernel
from parakit.sandbox.isolation.landlock import THIRD_PARTY

SCRATCH = "/tmp"
_NEW_ROOT, _OLD_ROOT = "/tmp", "/old-root"  # any existing folder can hold the new root
_TINY = "size=256k,nr_inodes=1024,mode=755"
_SAFE = kernel.NO_SUID | kernel.NO_DEVICES


def enter(folders: Sequence[str]) -> None:
    """Continue as process 1 of new namespaces in which `folders` can be read at their usual paths. The calling process
    waits outside and ends with this one. `OSError` where the kernel provides no namespaces.
    """
    user, group = os.geteuid(), os.getegid()
    flags = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_NETWORK | kernel.NEW_IPC | kernel.NEW_UTS
    kernel.system_call("unshare", kernel.NEW_USER | flags | kernel.NEW_CGROUP)
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
    """A private `/tmp` of that size, for this process only."""
    kernel.system_call("unshare", kernel.NEW_MOUNTS)
    inodes = 16 + n_bytes // 4096
    options = f"size={n_bytes},nr_inodes={inodes},mode=700"
    kernel.mount("scratch", SCRATCH, "tmpfs", _SAFE | kernel.NO_EXECUTION, options)
    os.chdir(SCRATCH)
    return SCRATCH


def _build(folders: Sequence[str]) -> None:
    sources = [(folder, os.path.realpath(folder)) for folder in folders]
    kernel.mount(None, "/", None, kernel.PRIVATE | kernel.RECURSIVE)
    kernel.mount("root", _NEW_ROOT, "tmpfs", _SAFE, _TINY)
    os.mkdir(_NEW_ROOT + _OLD_ROOT)
    kernel.system_call("pivot_root", _NEW_ROOT, _NEW_ROOT + _OLD_ROOT)
    os.chdir("/")
    for folder, source in sources:
        os.makedirs(folder, exist_ok=True)
        if not os.listdir(folder):  # else a parent folder is mounted already
            kernel.mount(_OLD_ROOT + source, folder, None, kernel.BIND | kernel.RECURSIVE)
            _read_only(folder)
        for name in THIRD_PARTY:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if os.path.isdir(f"{folder}/{name}"):
                    kernel.mount("nothing", f"{folder}/{name}", "tmpfs", _SAFE | kernel.READ_ONLY, "size=4k")
    os.makedirs(SCRATCH, exist_ok=True)
    kernel.system_call("umount2", _OLD_ROOT, kernel.DETACH)
    os.rmdir(_OLD_ROOT)
    _read_only("/")


def _read_only(path: str) -> None:
    """Remount; flags that the mount has outside the namespaces are locked and must be repeated."""
    current = os.statvfs(path).f_flag
    locked = current & (
        kernel.NO_EXECUTION | 1024 | 2048
    )  # noatime and nodiratime have the same value in both
    relatime = 1 << 21 if current & 4096 else 0
    flags = kernel.REMOUNT | kernel.BIND | kernel.READ_ONLY | _SAFE | locked | relatime
    kernel.mount(None, path, None, flags)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
