"""Amounts of memory and storage as people write them."""

from __future__ import annotations

import re

from parakit.common.errors import UserError

UNITS = {
    prefix + ending: base**power
    for power, prefix in enumerate(("", "k", "m", "g", "t"))
    for ending, base in (("", 1000), ("b", 1000), *((("ib", 1024),) if prefix else ()))
}


def parse_bytes(text: str, what: str) -> int:
    """`"80MB"`, `"1.5 GiB"`, `"500k"`, `"80000000"` -> bytes: decimal units, and binary ones with an i.

    `UserError` names `what` for text that is no positive amount.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)\s*", text.lower())
    n_bytes = int(float(match[1]) * UNITS.get(match[2], 0)) if match else 0
    if n_bytes < 1:
        raise UserError(
            f"{what} {text!r} is not an amount of bytes", "write for example 500MB, 1.5GB or 8GiB"
        )
    return n_bytes
