"""What a model would see in a corpus, before it is trained: sources, lengths, languages, personal data, random pieces.

Counts of reading come from the corpus's report. The rest is measured on its documents: on all of a split up to 16 MB, and
on a sample spread evenly over a larger one, so that the time is bounded; the result says which. Personal data and
passwords are counted by kind, and are replaced by their kinds in the texts that are shown.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parakit.common.artifacts import open_artifact
from parakit.common.errors import CorruptArtifact
from parakit.common.files import JsonObject, read_json
from parakit.common.seeds import rng
from parakit.data.documents import Document
from parakit.data.personal.sensitive import count_kinds, mask
from parakit.data.readers.skip_reasons import way_to_include
from parakit.data.splits import SPLITS

WHOLE_BYTES = 16 * 2**20  # of a split that is read as a whole
N_SAMPLED = 4_000  # documents of a larger one
N_PIECES, PIECE_CHARS = 10, 500
N_LANGUAGE, LANGUAGE_CHARS = 300, 600  # documents whose language is looked at, and how much of each
SHORTEST_BUCKET = 64  # characters; each next one is twice as long
EXTRA = "needs parakit[data]"


@dataclass
class _SplitFacts:
    """What is counted over the documents of a split."""

    split: str
    n: int = 0
    n_bytes: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    pieces: list[Document] = field(default_factory=list)
    sensitive: Counter[str] = field(default_factory=Counter)
    n_sensitive: int = 0

    def add(self, document: Document, random: Any) -> None:
        self.n += 1
        self.n_bytes += document.n_bytes
        self.lengths[max(0, (len(document.text) // SHORTEST_BUCKET).bit_length())] += 1
        kinds = count_kinds(document.text)
        self.sensitive.update(kinds)
        self.n_sensitive += bool(kinds)
        if len(self.pieces) < N_PIECES:  # reservoir sampling: every document is as likely
            self.pieces.append(document)
        elif (place := int(random.integers(self.n))) < N_PIECES:
            self.pieces[place] = document

    def to_dict(self, random: Any, whole: bool) -> JsonObject:
        return {
            "examined": {"documents": self.n, "bytes": self.n_bytes, "whole": whole},
            "lengths": [
                {
                    "from": SHORTEST_BUCKET << (bucket - 1) if bucket else 0,
                    "to": SHORTEST_BUCKET << bucket,
                    "documents": self.lengths[bucket],
                }
                for bucket in range(max(self.lengths, default=-1) + 1)
            ],
            "sensitive": dict(self.sensitive.most_common()),
            "sensitive_documents": self.n_sensitive,
            "pieces": [_piece(document, random) for document in self.pieces],
        }


def corpus_overview(path: str | Path, seed: int = 0) -> JsonObject:
    """The overview of the corpus folder `path`; `seed` chooses the pieces and the sample.

    {"splits": {split: {documents, bytes, examined, lengths, sensitive, sensitive_documents, pieces}}, "sources",
    "languages": {code: share} or why not, "encodings", "duplicates", "lines", "cleaning", "skipped", "formats",
    "left_out": [{reason, files, first, way}]}.
    """
    path = open_artifact(path, "corpus", verify=False).path
    report = read_json(path / "report.json")
    splits: JsonObject = {}
    texts: list[str] = []
    for split in SPLITS:
        random, facts = rng(seed, "overview", split), _SplitFacts(split)
        documents, whole = _documents(path / f"{split}.jsonl", random)
        counts = report["splits"][split]
        counts = counts if isinstance(counts, dict) else {"documents": counts, "bytes": None}
        step = max(1, (counts["documents"] if whole else N_SAMPLED) // N_LANGUAGE)
        for number, document in enumerate(documents):
            facts.add(document, random)
            if split == "train" and not number % step:
                texts.append(document.text[:LANGUAGE_CHARS])
        splits[split] = counts | facts.to_dict(random, whole)
    files = report.get("largest_files", [])
    return {
        "splits": splits,
        "sources": {"files": report.get("n_files", 0), "unit": "bytes", "largest": files},
        "languages": languages(texts),
        "encodings": report.get("encodings", {}),
        "duplicates": {
            name: report[name]
            for name in ("duplicates", "validation_duplicates", "near_duplicate_texts", "texts_in_two_splits")
            if report.get(name)
        },
        "lines": report.get("lines", {}),
        "mixture": report.get("mixture", []),
        "cleaning": report.get("cleaning", []),
        "skipped": report.get("skipped", {}),
        "formats": report.get("formats", {}),
        "left_out": _skipped_rows(report),
    }


def _skipped_rows(report: JsonObject) -> list[JsonObject]:
    """A row for each reason, the most frequent first: how many files, the first one, and the way to include them."""
    first: dict[str, str] = {}
    for one in report.get("skipped_files", []):
        reason, _, detail = one["reason"].partition(": ")
        first.setdefault(reason, f"{one['source']} ({detail})" if detail else one["source"])
    counts = sorted(report.get("skipped", {}).items(), key=lambda item: (-item[1], item[0]))
    return [
        {"reason": reason, "files": n, "first": first.get(reason, ""), "way": way_to_include(reason)}
        for reason, n in counts
    ]


def languages(texts: Sequence[str]) -> JsonObject | str:
    """The share of each language in `texts`, by ISO 639-1 code, or why it is not known."""
    if find_spec("py3langid") is None:
        return EXTRA
    classify = import_module("py3langid").classify
    found = Counter(classify(text)[0] for text in texts if len(text) >= 40)
    return {code: round(n / found.total(), 4) for code, n in found.most_common()}


def with_tokens(overview: JsonObject, index: Mapping[str, Any]) -> JsonObject:
    """The overview with the sources by tokens instead of bytes, from the `index.json` of token shards of the corpus."""
    files = index.get("corpus", {}).get("largest_files")
    if not files or "tokens" not in files[0]:
        return overview
    return overview | {"sources": overview["sources"] | {"unit": "tokens", "largest": files}}


def _documents(path: Path, random: Any) -> tuple[Iterator[Document], bool]:
    """The documents of a split, or a sample of a large one; whether it is all of them."""
    if os.path.getsize(path) <= WHOLE_BYTES:
        return _rows(path), True
    return _sample(path, random), False


def _rows(path: Path) -> Iterator[Document]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            yield _document(line, f"{path}, row {number}")


def _document(line: bytes, where: str) -> Document:
    try:
        return Document.from_row(line)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifact(f"{where}: is no document: {error}", "prepare the corpus again") from None


def _sample(path: Path, random: Any) -> Iterator[Document]:
    """Documents at evenly spread places of a file: the row after each place, drawn within its part of the file."""
    size = os.path.getsize(path)
    places = ((i + random.random()) * size / N_SAMPLED for i in range(N_SAMPLED))
    last = -1
    with open(path, "rb") as file:
        for place in places:
            file.seek(int(place))
            file.readline()
            begin = file.tell()
            line = file.readline()
            if line and begin != last:
                yield _document(line, f"{path}, byte {begin}")
            last = begin


def _piece(document: Document, random: Any) -> JsonObject:
    """A random stretch of a document, with personal data and secrets replaced by their kinds."""
    text = mask(document.text)
    start = int(random.integers(max(1, len(text) - PIECE_CHARS + 1)))
    return {"source": document.source, "id": document.digest[:16], "text": text[start : start + PIECE_CHARS]}
