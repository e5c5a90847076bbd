"""Personal data and secrets in one text: how many of each kind, and the text without them."""

from __future__ import annotations

from collections import Counter

from parakit.data.secrets import find_secrets


def count_kinds(text: str) -> Counter[str]:
    """How many there are of each kind of personal data, password or key."""
    return Counter(kind for kind, _, _ in _found(text))


def mask(text: str) -> str:
    """`text` with each replaced by its kind, as `[email]`."""
    parts, end = [], 0
    for kind, begin, stop in _found(text):
        parts += [text[end:begin], f"[{kind}]"]
        end = stop
    return "".join([*parts, text[end:]])


def _found(text: str) -> list[tuple[str, int, int]]:
    """From left to right, without overlaps; of two that overlap, the one that begins first."""
    kept: list[tuple[str, int, int]] = []
    for kind, begin, end in sorted(find_secrets(text), key=lambda one: (one[1], -one[2])):
        if not kept or begin >= kept[-1][2]:
            kept.append((kind, begin, end))
    return kept
