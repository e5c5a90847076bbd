"""Writing the documents of a corpus to their splits: what is in none of them, how large each is, and of how many texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.data.collected import read_rows
from parakit.data.collecting import Texts
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.mixing import source_caps
from parakit.data.split_assignment import SplitAssignment, region_split
from parakit.data.splits import SPLITS, writing_splits

N_LARGEST = 10  # files that the report names


def fractions(config: TextConfig) -> tuple[float, float]:
    """The fractions of the text that are held out: validation, where no files of its own are named, and test."""
    return 0.0 if config.validation_paths else config.validation_fraction, config.test_fraction


def write_documents(
    folder: Path, collected: Path, texts: Texts, assignment: SplitAssignment, config: TextConfig
) -> JsonObject:
    """Copy the documents to their splits; returns what the report says about these."""
    splits = {split: {"documents": 0, "bytes": 0, "sources": 0} for split in SPLITS}
    gap, capped, similar = ({"documents": 0, "bytes": 0} for _ in range(3))
    by_file, seen, groups = Counter[str](), set[tuple[str, int]](), set[tuple[str, int]]()
    pieces = Counter[int]()
    caps, limits = _caps(texts, assignment, config), _source_limits(texts, assignment, config)
    too_much, origins = {"documents": 0, "bytes": 0}, {split: bytearray() for split in SPLITS}
    by_origin = Counter[tuple[int, str]]()
    with writing_splits(folder) as outputs:
        for index, document in read_rows(collected):
            unit = texts.units[index]
            split = assignment.splits[index]
            if split is None and index not in assignment.dropped:
                split = region_split(pieces[index], unit.n_pieces, *fractions(config))
                pieces[index] += 1
            if index in assignment.dropped or split is None:
                counts: dict[str, int] = similar if index in assignment.dropped else gap
            elif split == "train" and _position(document) >= caps.get(unit.file, 1.0):
                counts = capped
            elif split == "train" and _position(document) >= limits.get(unit.origin, 1.0):
                counts = too_much
            else:
                outputs[split].write(document.to_row() + "\n")
                counts = splits[split]
                if (split, index) not in seen:
                    seen.add((split, index))
                    counts["sources"] += 1
                    groups |= {(split, unit.group)} if assignment.by == "text" else set()
                if split == "train":
                    by_file[unit.file] += document.n_bytes
                    by_origin[unit.origin, "documents"] += 1
                    by_origin[unit.origin, "bytes"] += document.n_bytes
                origins[split].append(unit.origin)
            counts["documents"] += 1
            counts["bytes"] += document.n_bytes
    mixed: JsonObject = {}
    if config.sources:
        for name, numbers in origins.items():
            (folder / origins_file(name)).write_bytes(numbers)
        mixed = {"mixture": _mixture_rows(config, by_origin), "over_max_bytes": too_much}
    return mixed | {
        "splits": splits,
        "split_by": assignment.by,
        "gap": gap,
        "near_duplicates": similar,
        "over_max_source_share": capped,
        "texts_in_two_splits": sum(n > 1 for n in Counter(group for _, group in groups).values()),
        "n_files": len(by_file),
        "largest_files": largest(by_file, "bytes"),
        "near_duplicate_texts": sum(unit.group != i for i, unit in enumerate(texts.units)),
    }


def largest(by_file: Counter[str], unit: str) -> list[JsonObject]:
    """The largest files, each with its size in `unit` and its share of all."""
    total = max(1, by_file.total())
    return [
        {"file": name, unit: n, "share": round(n / total, 4)} for name, n in by_file.most_common(N_LARGEST)
    ]


def _caps(texts: Texts, assignment: SplitAssignment, config: TextConfig) -> dict[str, float]:
    """The part of its documents that a file keeps in the training split, for files that are cut down."""
    if config.max_source_share is None:
        return {}
    sizes = Counter[str]()
    for i, unit in enumerate(texts.units):
        if assignment.splits[i] in (None, "train") and i not in assignment.dropped:
            sizes[unit.file] += unit.n_bytes
    return source_caps(sizes, config.max_source_share)


def origins_file(split: str) -> str:
    """The name of the file with the number of every document's source, a byte each, in the order of the split."""
    return f"{split}.sources.bin"


def _mixture_rows(config: TextConfig, by_origin: Counter[tuple[int, str]]) -> list[JsonObject]:
    """For each source: its weight, and its documents, bytes and share of the training text."""
    total = max(1, sum(n for (_, unit), n in by_origin.items() if unit == "bytes"))
    rows = []
    for number, source in enumerate(config.sources):
        n_bytes = by_origin[number, "bytes"]
        row = {"name": source.title, "weight": source.weight, "documents": by_origin[number, "documents"]}
        rows.append(row | {"bytes": n_bytes, "share": round(n_bytes / total, 4)})
    return rows


def _source_limits(texts: Texts, assignment: SplitAssignment, config: TextConfig) -> dict[int, float]:
    """The part of its training documents that a source keeps under its `max_bytes`."""
    limits = {number: one.max_bytes for number, one in enumerate(config.sources) if one.max_bytes}
    sizes = Counter[int]()
    for i, unit in enumerate(texts.units) if limits else ():
        if assignment.splits[i] in (None, "train") and i not in assignment.dropped:
            sizes[unit.origin] += unit.n_bytes
    return {number: limit / sizes[number] for number, limit in limits.items() if sizes[number] > limit}


def _position(document: Document) -> float:
    """Where a document is in a fixed random order, in [0, 1): of other digits than the split's."""
    return int(document.digest[-13:], 16) / 2**52
