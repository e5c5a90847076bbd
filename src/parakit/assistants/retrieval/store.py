"""The files and passages of an index: one SQLite database.

It is written in the unfinished folder of a new version of the index and never changed afterwards, so readers open it as
immutable and take no locks. Ids of passages are never used again, in no later version either: vectors are kept by them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parakit.assistants.retrieval.passages import DocumentPassage
from parakit.common.errors import CorruptArtifact
from parakit.data.page_marks import pages_of

DATABASE = "passages.sqlite"
_SCHEMA = """
CREATE TABLE files (
  file_id INTEGER PRIMARY KEY,
  source TEXT NOT NULL UNIQUE,
  size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  sha256 TEXT NOT NULL
);
CREATE TABLE passages (
  passage_id INTEGER PRIMARY KEY AUTOINCREMENT,
  file_id INTEGER NOT NULL REFERENCES files,
  source TEXT NOT NULL,
  title TEXT NOT NULL,
  heading TEXT NOT NULL,
  begin INTEGER NOT NULL,
  "end" INTEGER NOT NULL,
  text TEXT NOT NULL,
  digest BLOB NOT NULL,
  pages TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX passages_of_file ON passages (file_id);
CREATE INDEX passages_by_digest ON passages (digest);
"""
_COLUMNS = 'passage_id, source, title, heading, begin, "end", text, pages'


@dataclass(frozen=True)
class IndexedFile:
    """A file as it was when it was read. `source`: its name below the path that was given."""

    source: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class StoredPassage:
    """A passage of an index. `source`: its file, and after a colon its row, if any. `begin`, `end`: where it is in the
    document's text, in characters; `pages`: the characters of `text` at which pages begin, and their numbers.
    """

    id: int
    source: str
    title: str
    heading: str
    begin: int
    end: int
    text: str
    pages: tuple[tuple[int, int], ...] = ()

    @property
    def page_numbers(self) -> list[int]:
        """The pages that it is on, ascending; empty where its format has none."""
        return sorted({page for _, page in self.pages})

    @property
    def place(self) -> str:
        """Its file, its pages and its headings, for people."""
        return self.place_on(self.page_numbers)

    def place_on(self, pages: Sequence[int]) -> str:
        """The same for some of its pages."""
        ends = "-".join(str(page) for page in dict.fromkeys((*pages[:1], *pages[-1:])))
        shown = f"page{'s' if '-' in ends else ''} {ends}" if ends else ""
        return ", ".join(part for part in (self.source, shown, self.heading or self.title) if part)

    def pages_between(self, begin: int, end: int) -> list[int]:
        """The pages of a stretch of its text, ascending."""
        return sorted({page for _, page in pages_of(list(self.pages), begin, end)})


class PassageStore:
    """The database of one version of an index."""

    def __init__(self, folder: Path, writable: bool = False) -> None:
        path = folder / DATABASE
        if writable:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.executescript("PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;")
            if not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._connection.executescript(_SCHEMA)
            if not self._has_pages():  # of an earlier version of Parakit
                self._connection.execute("ALTER TABLE passages ADD COLUMN pages TEXT NOT NULL DEFAULT '[]'")
            self._columns = _COLUMNS
            return
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._connection.execute("SELECT 1 FROM passages LIMIT 1")
            self._columns = _COLUMNS if self._has_pages() else _COLUMNS.replace("pages", "'[]'")
        except sqlite3.Error as error:
            raise CorruptArtifact(
                f"{path}: is no database of passages: {error}", "make the index again"
            ) from None

    def _has_pages(self) -> bool:
        return any(row[1] == "pages" for row in self._connection.execute("PRAGMA table_info(passages)"))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing."""
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    # --- files
    def files(self) -> dict[str, IndexedFile]:
        """Every file by its source."""
        rows = self._connection.execute("SELECT source, size, mtime_ns, sha256 FROM files ORDER BY source")
        return {row[0]: IndexedFile(*row) for row in rows}

    def n_files(self) -> int:
        """Files of which the index has passages or knows that they have none."""
        return int(self._connection.execute("SELECT count(*) FROM files").fetchone()[0])

    def remove_file(self, source: str) -> None:
        """Remove a file with its passages."""
        found = self._connection.execute("SELECT file_id FROM files WHERE source = ?", (source,)).fetchone()
        if found:
            self._connection.execute("DELETE FROM passages WHERE file_id = ?", found)
            self._connection.execute("DELETE FROM files WHERE file_id = ?", found)

    def write_file(
        self, record: IndexedFile, documents: Iterable[tuple[str, str, Sequence[DocumentPassage]]]
    ) -> None:
        """Write a file and its documents (source, title, passages) in place of what is there of it. A passage that is as it
        was keeps its id, and with it its vector.
        """
        known: dict[tuple[str, bytes], list[int]] = {}
        rows = self._connection.execute(
            "SELECT p.source, digest, passage_id FROM passages p JOIN files USING (file_id)"
            " WHERE files.source = ? ORDER BY passage_id",
            (record.source,),
        )
        for source, digest, passage_id in rows:
            known.setdefault((source, digest), []).append(passage_id)
        self.remove_file(record.source)
        values = (record.source, record.size, record.mtime_ns, record.sha256)
        cursor = self._connection.execute(
            "INSERT INTO files (source, size, mtime_ns, sha256) VALUES (?, ?, ?, ?)", values
        )
        file_id = cursor.lastrowid
        for source, title, passages in documents:
            for one in passages:
                same = known.get((source, one.digest))
                self._connection.execute(
                    f"INSERT INTO passages ({_COLUMNS}, file_id, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(same.pop(0) if same else None, source, title, one.heading, one.begin, one.end),
                        *(one.text, json.dumps(one.pages), file_id, one.digest),
                    ),
                )

    def touch_file(self, record: IndexedFile) -> None:
        """Record size and time of a file whose content is as it was."""
        self._connection.execute(
            "UPDATE files SET size = ?, mtime_ns = ? WHERE source = ?",
            (record.size, record.mtime_ns, record.source),
        )

    # --- passages
    def ids(self) -> list[int]:
        """The ids of all passages, ascending: the order of their rows in the table of words."""
        return [row[0] for row in self._connection.execute("SELECT passage_id FROM passages ORDER BY 1")]

    def texts(self) -> Iterator[str]:
        """What is searched of every passage, in the order of the ids."""
        rows = self._connection.execute("SELECT heading, text FROM passages ORDER BY passage_id")
        return (DocumentPassage(text, 0, 0, heading).searched for heading, text in rows)

    def searched(self, ids: Sequence[int]) -> list[tuple[int, bytes, str]]:
        """Of each passage its id, its digest and what is searched."""
        rows = self._in("passage_id, digest, heading, text", ids)
        return [(row[0], row[1], DocumentPassage(row[3], 0, 0, row[2]).searched) for row in rows]

    def passages(self, ids: Sequence[int]) -> list[StoredPassage]:
        """The passages of these ids, in their order."""
        found = {row[0]: _passage(row) for row in self._in(self._columns, ids)}
        return [found[one] for one in ids if one in found]

    def all_passages(self) -> Iterator[StoredPassage]:
        """Every passage, in the order of the ids."""
        rows = self._connection.execute(f"SELECT {self._columns} FROM passages ORDER BY passage_id")
        return map(_passage, rows)

    def sources(self) -> dict[int, str]:
        """The source of each passage by its id."""
        return dict(self._connection.execute("SELECT passage_id, source FROM passages"))

    def content(self) -> Iterator[bytes]:
        """The source and the digest of every passage in an order that does not depend on the ids."""
        for source, begin, digest in self._connection.execute(
            "SELECT source, begin, digest FROM passages ORDER BY source, begin, digest"
        ):
            yield f"{source}\0{begin}\0".encode() + digest

    def _in(self, columns: str, ids: Sequence[int]) -> Iterator[tuple]:
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            marks = ",".join("?" * len(part))
            yield from self._connection.execute(
                f"SELECT {columns} FROM passages WHERE passage_id IN ({marks})", part
            )


def _passage(row: Sequence) -> StoredPassage:
    pages = tuple((begin, page) for begin, page in json.loads(row[-1]))
    return replace(StoredPassage(*row), pages=pages)
