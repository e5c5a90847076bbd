"""System calls that Python has no function for, by number: namespaces, mounts, capabilities, prctl. Linux on x86_64 and
aarch64. Runs in the fork server, with the standard library only. Each raises `OSError` when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
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
    "setfsuid": (122, 151),
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
_KEEP_CAPABILITIES, _CHANGE_USER = 8, 1 << 7  # PR_SET_KEEPCAPS, CAP_SETUID
_OPTIONS = {
    1: "PR_SET_PDEATHSIG", 4: "PR_SET_DUMPABLE", 8: "PR_SET_KEEPCAPS", 22: "PR_SET_SECCOMP", 38: "PR_SET_NO_NEW_PRIVS",
}  # fmt: skip
_CAPABILITY_VERSION = 0x20080522
NOBODY = 65534


def architecture() -> int:
    """This machine's column in the tables of numbers; `OSError` for an unsupported machine."""
    if platform.machine() not in ARCHITECTURES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(f"{platform.machine()} is not supported, only {' and '.join(ARCHITECTURES)}, 64 bits")
    return ARCHITECTURES[platform.machine()]


def system_call(name: str, *arguments: Any, what: str = "") -> int:
    """Call the kernel with integers, bytes, None or ctypes pointers. `what` names the purpose in an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[name][architecture()]
    result = libc.syscall(ctypes.c_long(number), *map(_argument, arguments))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}{what and f' ({what})'}: {os.strerror(error)}")
    return result


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, str):
        return ctypes.c_char_p(os.fsencode(value))
    return ctypes.c_long(value) if isinstance(value, int) else value


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    system_call("mount", source, target, kind, flags, options, what=f"{kind or 'flags'} on {target}")


def drop_capabilities() -> None:
    """Clear the effective, permitted and inheritable sets."""
    _set_capabilities(0)


def set_process(option: int, *arguments: Any) -> None:
    """prctl(2)."""
    system_call("prctl", option, *arguments, *[0] * (4 - len(arguments)), what=_OPTIONS[option])


def leave_root(folders: Sequence[str], user: int = NOBODY) -> None:
    """Become another user and group, without further groups. `OSError` names the call that the kernel refuses.

    Where that user cannot read `folders` (a library below /root), files are still opened as root's, without root's
    capabilities: Landlock says which can be.
    """
    set_process(_KEEP_CAPABILITIES, 1)
    for name, step in (
        ("setgroups", lambda: os.setgroups([])),
        ("setresgid", lambda: os.setresgid(user, user, user)),
        ("setresuid", lambda: os.setresuid(user, user, user)),
    ):
        try:
            step()
        except OSError as error:
            why = f"{name} (so that root's programs are not root's): {error.strerror}; run as another user than root"
            raise OSError(error.errno, why) from None
    if not all(os.access(folder, os.R_OK | os.X_OK) for folder in folders):
        _set_capabilities(_CHANGE_USER)
        system_call("setfsuid", 0)


def _set_capabilities(mask: int) -> None:
    """The effective and permitted sets; the inheritable one is cleared."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    system_call("capset", ctypes.byref(head), ctypes.byref((ctypes.c_uint32 * 6)(mask, mask)))
