"""The file that holds the documents of a corpus before they are split: each on a line, after the index of its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from parakit.data.documents import Document


def write_row(file: IO[str], index: int, document: Document) -> None:
    """Append a document of text `index`."""
    file.write(f"{index}\t{document.to_row()}\n")


def read_rows(path: Path) -> Iterator[tuple[int, Document]]:
    """The documents in the order in which they were written, each with the index of its text."""
    with open(path, encoding="utf-8", newline="\n") as file:
        yield from map(parse_row, file)


def parse_row(line: str) -> tuple[int, Document]:
    """The index of a text and its document, of a line that `write_row` wrote."""
    number, _, row = line.partition("\t")
    return int(number), Document.from_row(row)
