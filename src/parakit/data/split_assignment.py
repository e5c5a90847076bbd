"""Which split each text of a corpus goes to: a text is never in two splits.

A text is a file, or a row of one; its pieces stay together, and so do near-duplicates of it. The split follows from the
digest of a text's beginning, so that texts keep their splits as a corpus grows. Two things come on top, which matter in
small corpora: a text (or group) that is too large to be held out whole is trained on, and a split with fewer than five
texts takes the next ones in the order of digests while there is room. Where whole texts cannot fill the splits at all, as
in a corpus of one book, regions of texts are held out instead: the end of a text, with a piece left out before it, so that
no held-out piece continues one that is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from parakit.data.splits import split_of

MIN_TEXTS = 5  # of a held-out split, where the fraction has room for them
MAX_HELD_OUT = 2.0  # times its fraction that a held-out split may have of the bytes
LAST_RESORT = 1 / 3  # of the bytes, for one text that is held out of a corpus too short for regions
MIN_PIECES = 40  # of a text that is cut into regions, so that what is left out is little

Split = Literal["train", "validation", "test"]


@dataclass(slots=True)
class TextUnit:
    """One text of a corpus: the sha256 of its first piece, its file, its size, and the index of the first text of its
    group. `held_out`: it comes from `validation_paths`. `origin`: the number of its source in `sources`.
    """

    digest: str
    file: str
    held_out: bool = False
    n_bytes: int = 0
    n_pieces: int = 0
    group: int = -1
    origin: int = 0


@dataclass(frozen=True)
class SplitAssignment:
    """`splits[i]` is the split of text i, None where its regions are in several or it is left out (`dropped`)."""

    by: Literal["text", "region"]
    splits: list[Split | None]
    dropped: frozenset[int] = frozenset()


def assign_splits(
    units: Sequence[TextUnit], validation_fraction: float, test_fraction: float, least_room: float = 0.0
) -> SplitAssignment | None:
    """Whole texts in splits, each of which has one where its fraction is above 0; None where that cannot be. Texts that
    resemble a held-out one are left out. `least_room` is a share of the bytes that a held-out split may have in any case.
    """
    groups = _groups(units)
    held = {group for group, members in groups.items() if any(units[i].held_out for i in members)}
    dropped = frozenset(i for group in held for i in groups.pop(group) if not units[i].held_out)
    sizes = {group: sum(units[i].n_bytes for i in members) for group, members in groups.items()}
    total = sum(sizes.values())
    key = {group: _digest(units, members) for group, members in groups.items()}
    order = sorted(groups, key=lambda group: key[group])
    split: dict[int, Split] = {
        group: split_of(key[group], validation_fraction, test_fraction)  # type: ignore[misc]
        for group in groups
    }
    for name, fraction, queue in (
        ("validation", validation_fraction, order),
        ("test", test_fraction, order[::-1]),
    ):
        room = fraction * total, max(MAX_HELD_OUT * fraction, least_room) * total
        if fraction and not _fill(name, room, queue, split, sizes, groups):  # type: ignore[arg-type]
            return None
    if not any(one == "train" for one in split.values()):
        return None
    splits: list[Split | None] = ["validation" if unit.held_out else split.get(unit.group) for unit in units]
    return SplitAssignment("text", splits, dropped)


def assign_regions(units: Sequence[TextUnit]) -> SplitAssignment:
    """Regions of the texts that are long enough; of near-duplicates only the longest is used, for its regions lie
    elsewhere than those of the others.
    """
    dropped: set[int] = set()
    for members in _groups(units).values():
        longest = max(members, key=lambda i: (units[i].held_out, units[i].n_bytes, -i))
        dropped.update(i for i in members if i != longest and not units[i].held_out)
    least = min(MIN_PIECES, max((unit.n_pieces for unit in units if not unit.held_out), default=0))
    splits: list[Split | None] = [
        "validation" if unit.held_out else None if unit.n_pieces >= least else "train" for unit in units
    ]
    return SplitAssignment("region", splits, frozenset(dropped))


def region_split(piece: int, n_pieces: int, validation_fraction: float, test_fraction: float) -> Split | None:
    """The split of piece `piece` (from 0) of a text in regions: train, a gap, validation, a gap, test. None: in a gap."""
    n_test = max(1, round(test_fraction * n_pieces)) if test_fraction else 0
    n_validation = max(1, round(validation_fraction * n_pieces)) if validation_fraction else 0
    last = n_pieces - n_test
    if piece >= last:
        return "test" if piece >= last else None
    end = last - bool(n_test)
    if n_validation:
        if piece >= end:
            return None
        if piece >= end - n_validation:
            return "validation"
        end -= n_validation + 1
    return "train" if piece < end else None


def _groups(units: Sequence[TextUnit]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for i, unit in enumerate(units):
        groups.setdefault(unit.group, []).append(i)
    return groups


def _digest(units: Sequence[TextUnit], members: Sequence[int]) -> str:
    """The digest that stands for a group: that of the member whose digest reads the least from its end, so that neither
    split is more likely for a larger group.
    """
    return min((units[i].digest for i in members), key=lambda digest: digest[::-1])


def _fill(
    name: Split,
    room: tuple[float, float],
    queue: Sequence[int],
    split: dict[int, Split],
    sizes: dict[int, int],
    groups: dict[int, list[int]],
) -> bool:
    """Take groups out of the held-out split `name` that make it too large, and more into it while it has few texts;
    False where it stays empty. `room`: the bytes that it should have, and the most that it may.
    """
    wanted, most = room
    n_texts, n_bytes = 0, 0.0
    for group in queue:
        if split[group] != name:
            continue
        if n_bytes + sizes[group] > most:
            split[group] = "train"
        else:
            n_texts, n_bytes = n_texts + len(groups[group]), n_bytes + sizes[group]
    for group in queue:
        if n_texts >= MIN_TEXTS:
            break
        fits = n_bytes + sizes[group] <= (wanted if n_texts else most)
        if split[group] == "train" and fits:
            split[group] = name
            n_texts, n_bytes = n_texts + len(groups[group]), n_bytes + sizes[group]
    return n_texts > 0
