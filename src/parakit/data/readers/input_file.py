"""One file to read, on disk or inside an archive, and what reading all that is inside of it may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from parakit.common.remote import RemoteFile

Compression = Literal["gz", "zst", "xz", "bz2"]
MAX_DEPTH = 3  # archives inside each other: a.zip/b.tar.gz/c.zip/d.txt is read


@dataclass(slots=True)
class ArchiveBudget:
    """What the members of one archive on disk, and of the archives in it, have cost so far."""

    n_bytes: int = 0
    n_members: int = 0


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read. `source` is its name in reports, the same on every machine: `data/a.zip/inner/b.docx` for a member
    of an archive, whose `path` is a temporary file that lasts until the next member is requested.

    `format` is the name of a registered format, as the file's name speaks for it, None where it does not; `named`: the user
    gave its path, not that of a folder; `depth` counts the archives around it, `root_size` is the size of the outermost;
    `remote`: it is on object storage, and `path` is only its address. `mark_pages`: its text has marks where pages begin
    (`data.page_marks`), where its format has pages.
    """

    path: Path
    source: str
    format: str | None
    compression: Compression | None
    named: bool
    depth: int = 0
    root_size: int | None = None
    remote: RemoteFile | None = None
    mark_pages: bool = False
    budget: ArchiveBudget = field(default_factory=ArchiveBudget)

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return self.source.rpartition("/")[2]

    def size(self) -> int:
        """Bytes on disk or on object storage; `OSError` where it vanished."""
        return self.remote.n_bytes if self.remote else self.path.stat().st_size
