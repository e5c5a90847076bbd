"""Which system calls a confined program may make: a list of what Python needs to compute and to read its library. All
others fail with EPERM: sockets, processes and threads, signals, ptrace, mounts, keys, io_uring, and calls that newer
kernels add. Calls through another architecture's entry (32 bits, x32) kill the process.

The filter is a program for the kernel's classic BPF machine (seccomp(2)); a file can be opened for reading only,
unless the program has a scratch folder of its own.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from parakit.sandbox.isolation.kernel import SET_SECCOMP, architecture, set_process

_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
AUDIT_ARCHITECTURES = (0xC000003E, 0xC00000B7)
_X32 = 0x40000000

# name: numbers on x86_64 and aarch64; a call that a machine does not have is None
_ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, None), "pipe": (22, None),
    "select": (23, None), "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23),
    "dup2": (33, None), "pause": (34, None), "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, None),
    "setitimer": (38, 103), "getpid": (39, 172), "exit": (60, 93), "uname": (63, 160), "getdents64": (217, 61),
    "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175),
    "getegid": (108, 177), "getppid": (110, 173), "sigaltstack": (131, 132), "arch_prctl": (158, None),
    "gettid": (186, 178), "futex": (202, 98), "set_tid_address": (218, 96), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59),
    "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293),
    "close_range": (436, 436), "faccessat2": (439, 439),
}  # fmt: skip
_ALLOWED_WITH_SCRATCH: dict[str, tuple[int | None, int | None]] = {
    "pwrite64": (18, 68), "fsync": (74, 82), "fdatasync": (75, 83), "truncate": (76, 45), "ftruncate": (77, 46),
    "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "mkdir": (83, None), "rmdir": (84, None),
    "link": (86, None), "unlink": (87, None), "symlink": (88, None), "chmod": (90, None), "fchmod": (91, 52),
    "mkdirat": (258, 34), "unlinkat": (263, 35), "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36),
    "fchmodat": (268, 53), "utimensat": (280, 88), "renameat2": (316, 276),
}  # fmt: skip
_WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000  # the access mode, O_CREAT, O_TRUNC, O_TMPFILE
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030, 1032)  # F_DUPFD to F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, ...
# name: numbers, the argument that is checked, and its allowed values
_ALLOWED_WITH_ARGUMENT: dict[str, tuple[tuple[int | None, int | None], int, tuple[int, ...]]] = {
    "ioctl": ((16, 29), 1, _IOCTL_REQUESTS),
    "fcntl": ((72, 25), 1, _FCNTL_COMMANDS),
    "sched_getaffinity": ((204, 123), 0, (0,)),
    "prlimit64": ((302, 261), 0, (0,)),
}
_OPENING: dict[str, tuple[tuple[int | None, int | None], int]] = {
    "open": ((2, None), 1),
    "openat": ((257, 56), 2),
}


def filter_program(column: int, scratch: bool) -> bytes:
    """The BPF program for a machine's column of numbers."""
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, AUDIT_ARCHITECTURES[column], yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        program += [_step(_AT_LEAST, _X32, no=1), _step(_RETURN, _KILL)]
    allowed = dict(_ALLOWED) | (_ALLOWED_WITH_SCRATCH if scratch else {})
    if scratch:
        allowed |= {name: numbers for name, (numbers, _) in _OPENING.items()}
    for numbers in allowed.values():
        if (number := numbers[column]) is not None:
            program += _when(number, [_step(_RETURN, _ALLOW)])
    for numbers, argument, values in _ALLOWED_WITH_ARGUMENT.values():
        if (number := numbers[column]) is not None:
            program += _when(number, [_load_argument(argument), *_one_of(values)])
    for numbers, argument in _OPENING.values() if not scratch else ():
        if (number := numbers[column]) is not None:
            writes = [_step(_HAS_BITS, _WRITING, no=1), _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]
            program += _when(number, [_load_argument(argument), *writes])
    return b"".join([*program, _step(_RETURN, _REFUSE)])


def install_filter(scratch: bool) -> None:
    """Bind this process to the filter permanently. Needs no privilege once no_new_privs is set."""
    program = filter_program(architecture(), scratch)
    steps = ctypes.create_string_buffer(program, len(program))

    class SockFprog(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    sock_fprog = SockFprog(len(program) // 8, ctypes.cast(steps, ctypes.c_void_p))
    set_process(SET_SECCOMP, 2, ctypes.byref(sock_fprog))


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are the numbers of instructions to skip."""
    return struct.pack("<HBBI", code, yes, no, value)


def _when(number: int, then: list[bytes]) -> list[bytes]:
    """Run `then`, which always returns, if the call is `number`."""
    return [_step(_EQUAL, number, no=len(then)), *then]


def _load_argument(argument: int) -> bytes:
    """The low half; the kernel too reads the checked arguments as 32-bit integers."""
    return _step(_LOAD, _ARGUMENTS + 8 * argument)


def _one_of(values: tuple[int, ...]) -> list[bytes]:
    tests = [_step(_EQUAL, value, yes=len(values) - i) for i, value in enumerate(values)]
    return [*tests, _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]
