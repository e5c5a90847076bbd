"""System calls that Python has no function for, by number: namespaces, mounts, capabilities, prctl. Linux on x86_64 and
aarch64. Runs in the fork server, with the standard library only. Each raises `OSError` when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
NUMBERS = {
    "capset": (126, 91),
    "close_range": (436, 436),
    "landlock_add_rule": (445, 445),
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "mount": (165, 40),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "umount2": (166, 39),
    "unshare": (272, 97),
}
NEW_MOUNTS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXECUTION, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
DETACH = 2  # of umount2
SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVILEGES = 1, 4, 22, 38
_CAPABILITY_VERSION = 0x20080522


def architecture() -> int:
    """This machine's column in the tables of numbers; `OSError` for an unsupported machine."""
    if platform.machine() not in ARCHITECTURES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(f"{platform.machine()} is not supported, only {' and '.join(ARCHITECTURES)}, 64 bits")
    return ARCHITECTURES[platform.machine()]


def system_call(name: str, *arguments: Any) -> int:
    """Call the kernel with integers, bytes, None or ctypes pointers."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[name][architecture()]
    result = libc.syscall(ctypes.c_long(number), *map(_argument, arguments))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, str):
        return ctypes.c_char_p(os.fsencode(value))
    return ctypes.c_long(value) if isinstance(value, int) else value


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    system_call("mount", source, target, kind, flags, options)


def drop_capabilities() -> None:
    """Clear the effective, permitted and inheritable sets."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    system_call("capset", ctypes.byref(head), ctypes.byref((ctypes.c_uint32 * 6)()))


def set_process(option: int, *arguments: Any) -> None:
    """prctl(2)."""
    system_call("prctl", option, *arguments, *[0] * (4 - len(arguments)))
