"""Which scores of two evaluations may be compared: those of one protocol, on the same items.

A different version, template or number of shots makes another benchmark, so it is refused with both values. Where only the
choice of items differs, the shared ones can be compared with `common_items`: those of one id, prompt and target. The digests
of prompts and data are of the chosen items, so they are decisive where the items are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.results import BenchmarkResult, Item

ITEM_CHOICE = frozenset({"limit", "n_items", "seed"})
"""Settings of a protocol that choose the items; a shared item's own texts show whether it is the same."""
DIGESTS = {"prompts_digest": "prompt", "data_digest": "target"}
"""Parts of a protocol that are digests over the items, and the text of an item that they cover."""
MAX_CHARS = 60


@dataclass(frozen=True)
class Matched:
    """The items that two results share, in one order; what differs of their protocols and is allowed to."""

    first: tuple[Item, ...]
    second: tuple[Item, ...]
    n_left_out: int
    allowed: Mapping[str, tuple[Any, Any]]


def match_items(name: str, first: BenchmarkResult, second: BenchmarkResult, config: CompareConfig) -> Matched:
    """Pair the items of two results of one benchmark; `UserError` names what differs, with both values."""
    differs = first.protocol.differences(second.protocol)
    allowed: dict[str, tuple[Any, Any]] = {key: differs.pop(key) for key in config.allow if key in differs}
    digests: dict[str, tuple[Any, Any]] = {key: differs.pop(key) for key in DIGESTS if key in differs}
    settings = _different(*differs.pop("settings", ({}, {})))
    refused = differs | {f"settings.{key}": both for key, both in settings.items() if key not in ITEM_CHOICE}
    if refused:
        raise _other_protocol(name, refused)
    mine, its = _by_id(name, first), _by_id(name, second)
    shared = [key for key in mine if key in its]
    _check_shared(name, len(mine), len(its), len(shared), config)
    for field, attribute in DIGESTS.items():
        pairs = ((getattr(mine[key], attribute), getattr(its[key], attribute)) for key in shared)
        other = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if other is not None and field not in config.allow:
            values: dict[str, tuple[Any, Any]] = {field: other}
            raise _other_protocol(name, values, f" ({attribute} of an item)")
    # a choice of other items changes the digests as well
    if digests and len(shared) == len(mine) == len(its):
        cause = " (the items are the same: other shots, another chat template or other choices)"
        raise _other_protocol(name, digests, cause)
    dropped = len(mine) + len(its) - 2 * len(shared)
    return Matched(tuple(mine[k] for k in shared), tuple(its[k] for k in shared), dropped, allowed)


def _check_shared(name: str, n_first: int, n_second: int, n_shared: int, config: CompareConfig) -> None:
    """`UserError` where two evaluations have other items, unless the shared ones are to be compared."""
    if n_shared == n_first == n_second:
        return
    counts = f"{name}: the two evaluations have different items: {n_first:,} and {n_second:,}, of which {n_shared:,} are shared"
    if not n_shared:
        raise UserError(counts, "evaluate both with the same choice of items")
    if not config.common_items:
        raise UserError(
            counts,
            "evaluate both with the same choice of items, or compare on the shared ones with --common-items",
        )


def match_losses(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any], config: CompareConfig
) -> None:
    """`UserError` where two losses were measured with other windows. Texts are compared by their digests later on."""
    differs = _different(first.get("settings", {}), second.get("settings", {}))
    if differs and "settings" not in config.allow:
        raise _other_protocol(f"loss on {name}", {f"settings.{key}": both for key, both in differs.items()})


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs of two mappings of settings."""
    keys = dict.fromkeys([*first, *second])
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def _other_protocol(name: str, differs: Mapping[str, tuple[Any, Any]], cause: str = "") -> UserError:
    each = "; ".join(f"{key} is {_short(a)} and {_short(b)}" for key, (a, b) in differs.items())
    fields = " ".join(dict.fromkeys(key.partition(".")[0] for key in differs))
    return UserError(
        f"{name}: the two scores have different protocols: {each}{cause}",
        f"evaluate both models alike, or accept the difference with --allow {fields}",
    )


def _by_id(name: str, result: BenchmarkResult) -> dict[str, Item]:
    found = {item.id: item for item in result.items}
    if len(found) < len(result.items):
        raise UserError(
            f"{name}: {len(result.items) - len(found):,} of {len(result.items):,} items have the id of another",
            "evaluate the model again",
        )
    return found


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}..."
