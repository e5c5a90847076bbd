"""Numbers as text: counts, quantities, bytes, percentages and durations. Nothing else in the project formats them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

MISSING = "–"  # in the place of a value that was not measured
_PREFIXES = ("", "k", "M", "G", "T")


def is_number(value: object) -> TypeGuard[float]:
    """True for a finite number, and False for a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: object, digits: int = 3, pad: bool = True) -> str:
    """12345 as `12,345`; fractions with `digits` significant digits, trailing zeros included where `pad`."""
    if not is_number(value):
        return MISSING
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if not pad:
        return f"{value:,.{digits}g}"
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def quantity(value: float) -> str:
    """1234567 as `1.23M`, for progress lines."""
    scaled, prefix = _scaled(value)
    if prefix:
        return f"{scaled:.3g}{prefix}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


def compact(value: object) -> str:
    """4,982,016 as `4.98 M`, for reports."""
    if not is_number(value):
        return MISSING
    scaled, prefix = _scaled(value)
    return f"{f'{scaled:#.3g}'.rstrip('.')} {prefix}" if prefix else number(value)


def byte_size(n_bytes: object) -> str:
    """Bytes in decimal units: 9_800_000 as `9.80 MB`."""
    if not is_number(n_bytes):
        return MISSING
    return f"{compact(n_bytes)}{'B' if _scaled(n_bytes)[1] else ' bytes'}"


def percent(value: object, space: str = " ", missing: str = MISSING) -> str:
    """A share of 1 in percent: 0.8741 as `87.4 %`."""
    return f"{100 * value:.1f}{space}%" if is_number(value) else missing


def points(value: object) -> str:
    """A difference of shares in percentage points, with its sign: 0.123 as `+12.3`."""
    return f"{100 * value:+.1f}" if is_number(value) else MISSING


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key by its last part, where no other of `keys` ends in it."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def duration(seconds: float) -> str:
    """75 as `1m15s`, for progress lines."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def long_duration(seconds: object) -> str:
    """402 as `6 min 42 s`, for reports."""
    if not is_number(seconds):
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scaled(value: float) -> tuple[float, str]:
    """`value` in the largest unit in which its three digits are at least 1, and the unit's prefix."""
    power = next((power for power in range(4) if abs(value) < 999.5 * 1000**power), 4)
    return value / 1000**power, _PREFIXES[power]
