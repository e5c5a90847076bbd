"""XML as a stream of events, for the formats that are XML inside (DOCX, ODT, PPTX, XLSX).

Expat reads the bytes block by block; nothing of the tree is kept, so a sheet of a million rows needs the memory of one row.
A document type declaration is refused, with it every entity that a file could define or fetch. Names come without their
namespace.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple
from xml.parsers import expat

from parakit.data.config import TextConfig
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, charge
from parakit.data.readers.zip_files import open_zip

BLOCK = 2**16
MAX_DEPTH = 2_000
MAX_RELATIONS = 100_000


class Event(NamedTuple):
    """`kind` is "start", "end" or "text"; `name` the element's local name, or the text; `attributes` of a start."""

    kind: str
    name: str
    attributes: dict[str, str]


_NO_ATTRIBUTES: dict[str, str] = {}


def xml_events(stream: IO[bytes]) -> Iterator[Event]:
    """The events of an XML stream. `UnreadableFileError` for damage, a document type or more than 2,000 levels."""
    parser = expat.ParserCreate(namespace_separator=" ")
    events: list[Event] = []
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise UnreadableFileError("damaged XML", f"more than {MAX_DEPTH:,} levels")
        local = {_attribute_name(key): value for key, value in attributes.items()}
        events.append(Event("start", name.rpartition(" ")[2], local))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        events.append(Event("end", name.rpartition(" ")[2], _NO_ATTRIBUTES))

    def refuse(*_: object) -> None:
        raise UnreadableFileError("damaged XML", "it declares a document type, which may define entities")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: events.append(Event("text", text, _NO_ATTRIBUTES))
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        while block := stream.read(BLOCK):
            parser.Parse(block, False)
            yield from events
            events.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise UnreadableFileError("damaged XML", str(error)) from None
    yield from events


def _attribute_name(key: str) -> str:
    """A local name; "r:id" of Office's relationships, which stands next to a plain `id`."""
    space, _, local = key.rpartition(" ")
    return "r:id" if local == "id" and space.endswith("/relationships") else local


class Package:
    """A zip of XML parts, as Office and OpenDocument files are. `spend(n)` is called for `n` decompressed bytes."""

    def __init__(self, archive: zipfile.ZipFile, spend: Callable[[int], None]) -> None:
        self._zip, self.spend = archive, spend
        self.names = set(archive.namelist())

    def open(self, name: str) -> IO[bytes]:
        """A part's bytes. `UnreadableFileError` where it is missing or encrypted."""
        try:
            return _Counted(self._zip.open(name), self.spend)  # type: ignore[return-value]
        except KeyError:
            raise UnreadableFileError("damaged zip", f"it has no {name}") from None
        except RuntimeError as error:
            raise UnreadableFileError("encrypted", str(error), "save it without a password") from None

    def events(self, name: str) -> Iterator[Event]:
        """The XML events of a part."""
        return xml_events(self.open(name))

    def relations(self, part: str) -> list[tuple[str, str, str]]:
        """(id, last word of the type, target part) of a part's relationships; "" is the package. External ones are left
        out: nothing that a document points to is read.
        """
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels not in self.names:
            return []
        found: list[tuple[str, str, str]] = []
        for event in self.events(rels):
            if event.kind != "start" or event.name != "Relationship":
                continue
            if event.attributes.get("TargetMode") == "External" or len(found) >= MAX_RELATIONS:
                continue
            target = event.attributes.get("Target", "")
            path = posixpath.normpath(posixpath.join("/" + folder, target)).lstrip("/")
            kind = event.attributes.get("Type", "").rpartition("/")[2]
            found.append((event.attributes.get("Id", ""), kind, path))
        return found

    def related(self, part: str, kind: str) -> str | None:
        """The first part that `part` is related to by this kind, where it is there."""
        return next((p for _, k, p in self.relations(part) if k == kind and p in self.names), None)


@contextmanager
def open_package(file: InputFile, config: TextConfig) -> Iterator[Package]:
    """The package of a file. What it expands to is counted against `max_expansion`."""
    with open_zip(file.path) as archive:
        yield Package(archive, lambda n: charge(file, n, config))


class _Counted:
    """A stream whose bytes are counted."""

    def __init__(self, stream: IO[bytes], spend: Callable[[int], None]) -> None:
        self._stream, self._spend = stream, spend

    def read(self, n: int = BLOCK) -> bytes:
        block = self._stream.read(n)
        self._spend(len(block))
        return block


def inside(events: Iterator[Event]) -> Iterator[Event]:
    """The events up to the end of the element whose start was just taken."""
    depth = 1
    for event in events:
        depth += (event.kind == "start") - (event.kind == "end")
        if not depth:
            return
        yield event


def skip_element(events: Iterator[Event]) -> None:
    """Read past the element whose start was just taken."""
    for _ in inside(events):
        pass


def element_text(events: Iterator[Event]) -> str:
    """All text up to the end of the element whose start was just taken."""
    return "".join(name for kind, name, _ in inside(events) if kind == "text")
