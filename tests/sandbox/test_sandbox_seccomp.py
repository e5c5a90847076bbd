"""The filter of system calls, run as the kernel's BPF machine would, for every number and both architectures."""

from __future__ import annotations

import struct

import pytest

from parakit.sandbox.isolation import seccomp
from tests.sandbox.escapes import SYSTEM_CALLS

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
X86, ARM = 0, 1


def decided(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the program returns for a call."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *(a & (1 << 64) - 1 for a in padded))
    place = accumulator = 0
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", program, 8 * place)
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[
                code
            ]
            place += yes if holds else no


@pytest.mark.parametrize("column", [X86, ARM])
@pytest.mark.parametrize("scratch", [False, True])
def test_only_what_is_listed_is_allowed(column: int, scratch: bool) -> None:
    program = seccomp.filter_program(column, scratch)
    assert len(program) // 8 < 4096, "the kernel takes no longer one"
    listed = {numbers[column] for numbers in seccomp._ALLOWED.values()}
    if scratch:
        listed |= {numbers[column] for numbers in seccomp._ALLOWED_WITH_SCRATCH.values()}
    looked_at = {
        rule[0][column] for rule in (*seccomp._ALLOWED_WITH_ARGUMENT.values(), *seccomp._OPENING.values())
    }
    for number in range(600):
        found = decided(program, seccomp.AUDIT_ARCHITECTURES[column], number, (-1, -1, -1, -1))
        if number not in looked_at:
            assert found == (ALLOW if number in listed else REFUSE), number


@pytest.mark.parametrize("column", [X86, ARM])
def test_what_the_escapes_call_is_refused_on_both_architectures(column: int) -> None:
    program = seccomp.filter_program(column, False)
    for name, numbers in SYSTEM_CALLS.items():
        assert decided(program, seccomp.AUDIT_ARCHITECTURES[column], numbers[column]) == REFUSE, name


def test_other_doors_end_the_process() -> None:
    """i386 (0x40000003) and arm (0x40000028) calls, x32 numbers, and the other machine's."""
    for column, own in enumerate(seccomp.AUDIT_ARCHITECTURES):
        program = seccomp.filter_program(column, False)
        for other in {0x40000003, 0x40000028, *seccomp.AUDIT_ARCHITECTURES} - {own}:
            assert decided(program, other, 0) == KILL
    x86 = seccomp.filter_program(X86, False)
    for number in (0x40000000, 0x40000000 | 39, 0xFFFFFFFF):
        assert decided(x86, seccomp.AUDIT_ARCHITECTURES[X86], number) == KILL


@pytest.mark.parametrize(("column", "openat", "at"), [(X86, 257, 2), (X86, 2, 1), (ARM, 56, 2)])
def test_files_are_opened_for_reading_only(column: int, openat: int, at: int) -> None:
    program = seccomp.filter_program(column, False)
    for flags in range(1 << 12):
        arguments = (0,) * at + (flags,)
        writing = flags & 0o3 or flags & 0o100 or flags & 0o1000
        wanted = REFUSE if writing else ALLOW
        assert decided(program, seccomp.AUDIT_ARCHITECTURES[column], openat, arguments) == wanted
    tmpfile = (0,) * at + (0o20200000,)
    assert decided(program, seccomp.AUDIT_ARCHITECTURES[column], openat, tmpfile) == REFUSE


def test_high_halves_of_arguments_do_not_fool_the_filter() -> None:
    """The kernel reads 32 bits of these arguments, and so does the filter."""
    program = seccomp.filter_program(X86, False)
    own = seccomp.AUDIT_ARCHITECTURES[X86]
    assert decided(program, own, 257, (0, 0, (1 << 32) | 1)) == REFUSE
    assert decided(program, own, 72, (0, (1 << 32) | 8)) == REFUSE  # F_SETOWN
    assert decided(program, own, 72, (0, 3)) == ALLOW
