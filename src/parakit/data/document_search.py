"""Documents of a corpus by their id or by a text that they hold, streamed: memory holds one document.

The id of a document is the first 16 hexadecimal digits of the sha256 of its text as it is in the corpus. Its number is its
row in its split, from 0, which is its number in token shards of the split too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json
from parakit.data.documents import Document
from parakit.data.splits import SPLITS

ID_DIGITS = 16
_ID = re.compile(r"[0-9a-f]{4,64}")
AROUND = 80  # characters before and after a text that was searched for


@dataclass(frozen=True)
class FoundDocument:
    """A document and where it is. `begin`: the first character of the text that was searched for."""

    split: str
    number: int
    document: Document
    begin: int = 0

    @property
    def id(self) -> str:
        """The first digits of its digest."""
        return self.document.digest[:ID_DIGITS]

    def excerpt(self, length: int = 0) -> str:
        """The text from `AROUND` characters before `begin` to as many after the `length` that was searched for."""
        text, first = self.document.text, max(0, self.begin - AROUND)
        last = self.begin + length + AROUND
        return ("..." if first else "") + text[first:last] + ("..." if last < len(text) else "")


def find_documents(corpus: str | Path, document_id: str) -> list[FoundDocument]:
    """The documents whose id begins with `document_id`, at least 4 digits: several where texts are equal. `UserError`
    where there is none.
    """
    wanted = document_id.lower()
    if not _ID.fullmatch(wanted):
        raise UserError(
            f"{document_id!r} is no id of a document",
            "an id is 4 to 64 hexadecimal digits; --search TEXT finds the document by its text",
        )
    found = [one for one in _stream(corpus) if one.document.digest.startswith(wanted)]
    if not found:
        raise UserError(
            f"{corpus}: has no document {document_id}",
            "the id is of the text as the corpus has it; --search TEXT finds the document by its text",
        )
    return found


def search_documents(corpus: str | Path, text: str) -> Iterator[FoundDocument]:
    """The documents that have `text`, letter by letter, in the order of the splits."""
    if not text:
        raise UserError("an empty text was to be searched", "give some of the document's words")
    escaped = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
    for one in _stream(corpus, escaped):
        if (begin := one.document.text.find(text)) >= 0:
            yield FoundDocument(one.split, one.number, one.document, begin)


def history(corpus: str | Path, found: FoundDocument) -> JsonObject:
    """Where a document came from and what was done to it, from the report and the lineage of its corpus."""
    artifact = open_artifact(corpus, "corpus", verify=False)
    report, document = read_json(artifact.path / "report.json"), found.document
    parameters = {step["step"]: step["parameters"] for step in report.get("cleaning") or []}
    file = document.file
    changes = {
        "encoding guessed": report.get("guessed_files", {}).get(file),
        "bytes replaced in its file": report.get("bad_files", {}).get(file),
    }
    return {
        "id": found.id,
        "digest": document.digest,
        "split": found.split,
        "number": found.number,
        "source": document.source,
        "file": _path_of(file, artifact.lineage["config"]),
        "characters": len(document.text),
        "bytes": document.n_bytes,
        "steps": [{"step": name} | parameters.get(name, {}) for name in document.steps],
        "reading": {name: value for name, value in changes.items() if value},
    }


def _path_of(file: str, config: JsonObject) -> str | None:
    """The path of a source that is a file of this machine still; None where there is none."""
    for given in [*config.get("paths", ()), *config.get("validation_paths", ())]:
        path = Path(given).expanduser()
        if (first := path.name or path.resolve().name) and (file == first or file.startswith(f"{first}/")):
            candidate = path / file[len(first) + 1 :] if file != first else path
            if candidate.is_file():
                return str(candidate)
    return None


def _stream(corpus: str | Path, within: bytes = b"") -> Iterator[FoundDocument]:
    """The documents of all splits whose row has the bytes `within`."""
    folder = open_artifact(corpus, "corpus", verify=False).path
    for split in SPLITS:
        with open(folder / f"{split}.jsonl", "rb") as file:
            for number, line in enumerate(file):
                if within in line:
                    yield FoundDocument(split, number, Document.from_row(line))
