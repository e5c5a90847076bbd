"""Validation of sentencepiece's normalization table, before `tokenizers` uses it.

The table is a double-array trie over UTF-8 bytes (Aoe 1989, as in darts-clone), whose leaves point into a block of
NUL-terminated replacements. `tokenizers` indexes both without bounds checks, and a crafted table would crash the
process; here every step that a text could cause is taken once, and must stay inside.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

MAX_BYTES = 10_000_000
_NODES_PER_STEP = 4096  # bounds the memory of one step


def check_normalizer(normalizer: Any) -> None:
    """`ValueError` when a normalizer of a tokenizer.json holds an invalid table."""
    if not isinstance(normalizer, dict):
        return
    if normalizer.get("type") == "Precompiled":
        table = normalizer.get("precompiled_charsmap")
        if isinstance(table, str):
            check_charsmap(base64.b64decode(table, validate=True))
    for inner in normalizer.get("normalizers") or ():
        check_normalizer(inner)


def check_charsmap(table: bytes) -> None:
    """`ValueError` that says what is invalid in the table; an empty one is valid."""
    if not table:
        return
    if not 4 < len(table) <= MAX_BYTES:
        raise ValueError(f"a normalization table of {len(table)} bytes; {MAX_BYTES} is the limit")
    n_trie = int.from_bytes(table[:4], "little")
    if n_trie % 4 or not 0 < n_trie <= len(table) - 4:
        raise ValueError(f"a normalization table whose trie claims {n_trie} of {len(table) - 4} bytes")
    units = np.frombuffer(table, "<u4", n_trie // 4, 4).astype(np.int64)
    replacements = table[4 + n_trie :]
    replacements.decode("utf-8")
    leaves = _leaves(units)
    starts = np.frombuffer(replacements, np.uint8)
    # A replacement may begin anywhere except inside a character, also at the end, where it is empty.
    begins = np.append((starts & 0xC0) != 0x80, True)
    if leaves.size and (leaves.max() > len(replacements) or not begins[leaves].all()):
        raise ValueError("a normalization table with a replacement outside its block")


def _leaves(units: np.ndarray) -> np.ndarray:
    """Values of all keys of the trie; raises where a look-up could access a unit outside the array."""
    labels = np.arange(1, 256)  # a NUL ends a look-up
    seen = np.zeros(len(units), bool)
    pending = _offset(units[:1])
    values = [np.zeros(0, np.int64)]
    while pending.size:
        nodes, pending = pending[:_NODES_PER_STEP], pending[_NODES_PER_STEP:]
        if (nodes | 0xFF).max() >= len(units):
            raise ValueError("a normalization table whose trie points outside its array")
        children = nodes[:, None] ^ labels  # (n_nodes, 255)
        reached = children[(units[children] & 0x800000FF) == labels]
        reached = np.unique(reached[~seen[reached]])  # equal suffixes share their units
        seen[reached] = True
        nodes = reached ^ _offset(units[reached])
        leaves = nodes[(units[reached] & 0x100) > 0]
        if leaves.size and leaves.max() >= len(units):
            raise ValueError("a normalization table whose trie points outside its array")
        values.append(units[leaves] & 0x7FFFFFFF)
        pending = np.concatenate([pending, np.unique(nodes)])
    return np.concatenate(values)


def _offset(units: np.ndarray) -> np.ndarray:
    return (units >> 10) << ((units & 0x200) >> 6)
