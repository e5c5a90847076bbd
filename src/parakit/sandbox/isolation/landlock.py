"""Landlock (landlock(7), Linux 5.13): a process permanently gives up access to all files but those it lists.

Listed is the standard library, for reading, without `site-packages`. Where the kernel supports it, TCP, signals and
abstract sockets outside this domain are given up as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence

from parakit.sandbox.isolation.kernel import system_call

THIRD_PARTY = ("site-packages", "dist-packages")
_EXECUTE, _READ_FILE, _READ_FOLDER = 1, 1 << 2, 1 << 3
# by version; 5 adds device ioctl
_ALL_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_DEVICE_CONTROL = 1 << 15
_BIND_AND_CONNECT = 3
_SOCKETS_AND_SIGNALS = 3
_BENEATH = 1


def version() -> int:
    """Landlock's version in this kernel; 0 where there is none."""
    try:
        return system_call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def readable(folders: Sequence[str], scratch: str | None = None) -> int:
    """A ruleset (an open file) that allows reading `folders`, and everything but execution in `scratch`. Takes 8 ms and
    serves any number of processes.
    """
    abi = version()
    rights = _ALL_RIGHTS.get(abi, (1 << 16) - 1)
    words = [rights, _BIND_AND_CONNECT, _SOCKETS_AND_SIGNALS][: 1 if abi < 4 else 2 if abi < 6 else 3]
    attributes = struct.pack(f"{len(words)}Q", *words)
    ruleset = system_call("landlock_create_ruleset", ctypes.c_char_p(attributes), len(attributes), 0)
    for folder in folders:
        _allow(ruleset, folder, _READ_FOLDER)
        for entry in os.scandir(folder):
            if entry.name not in THIRD_PARTY and not entry.is_symlink():
                _allow(ruleset, entry.path, _READ_FILE | (_READ_FOLDER if entry.is_dir() else 0))
    if scratch:
        _allow(ruleset, scratch, rights & ~(_EXECUTE | _DEVICE_CONTROL))
    return ruleset


def restrict(ruleset: int) -> None:
    """Bind this process to the ruleset permanently. Needs no_new_privs."""
    system_call("landlock_restrict_self", ruleset, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = None
    with contextlib.suppress(FileNotFoundError, PermissionError):  # nothing to read
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    if descriptor is None:
        return
    try:
        rule = ctypes.c_char_p(struct.pack("=Qi", rights, descriptor))
        system_call("landlock_add_rule", ruleset, _BENEATH, rule, 0)
    finally:
        os.close(descriptor)
