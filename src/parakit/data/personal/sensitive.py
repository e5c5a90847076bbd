"""Personal data and secrets in one text: how many of each kind, and the text without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from parakit.data.personal.names import find_names
from parakit.data.personal.patterns import KINDS, Found, find_personal_data
from parakit.data.personal.secrets import SECRETS, find_secrets

STRUCTURED = (*SECRETS, *KINDS)
"""Kinds with a form of their own: secrets, and personal data that patterns and checksums find."""
ALL_KINDS = (*STRUCTURED, "name")
_RANK = {kind: rank for rank, kind in enumerate(ALL_KINDS)}


def count_kinds(text: str) -> Counter[str]:
    """How many there are of each kind of personal data, password or key."""
    return Counter(kind for kind, _, _ in find_sensitive(text))


def mask(text: str, kinds: Collection[str] = STRUCTURED) -> str:
    """`text` with each replaced by its kind, as `[EMAIL]`."""
    return replace(text, find_sensitive(text, kinds))


def replace(text: str, found: list[Found]) -> str:
    """`text` with each of `found`, which do not overlap and go from left to right, replaced by its kind."""
    parts, end = [], 0
    for kind, begin, stop in found:
        parts += [text[end:begin], f"[{kind.upper()}]"]
        end = stop
    return "".join([*parts, text[end:]])


def find_sensitive(text: str, kinds: Collection[str] = STRUCTURED) -> list[Found]:
    """From left to right, without overlaps. Of two that overlap, the one that begins first is kept, then the surer kind,
    then the longer one.
    """
    found = [one for one in (*find_secrets(text), *find_personal_data(text)) if one[0] in kinds]
    if "name" in kinds:
        found += find_names(text)
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one[1], _RANK[one[0]], -one[2])):
        if not kept or one[1] >= kept[-1][2]:
            kept.append(one)
    return kept
