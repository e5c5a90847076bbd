"""EPUB: the chapters in the order of the book's spine, as text. A chapter that is encrypted or missing is named."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.encodings import detect_encoding
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.declared_encoding import declared_encoding
from parakit.data.readers.formats.html import all_text
from parakit.data.readers.formats.xml import start_tags
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError
from parakit.data.readers.zip_files import open_zip, read_part

_ENCRYPTION = "META-INF/encryption.xml"


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The chapters, each ending in an empty line."""
    with open_zip(file.path) as archive:
        encrypted = _encrypted(archive, file, config)
        for name in _spine(archive, file, config):
            if name in encrypted:
                report.skip(f"{file.source}/{name}", "encrypted")
                continue
            try:
                page = read_part(archive, name, file, config)
            except UnreadableFileError as error:
                if error.reason == "expands too much":
                    raise
                report.skip(f"{file.source}/{name}", error.reason, error.detail)
                continue
            if text := all_text(_decoded(page)).strip():
                yield TextPart(text + "\n\n", file.source)


def _spine(archive: zipfile.ZipFile, file: InputFile, config: TextConfig) -> list[str]:
    """The names of the chapters in reading order."""
    container = start_tags(read_part(archive, "META-INF/container.xml", file, config))
    package = next((values.get("full-path", "") for tag, values in container if tag == "rootfile"), "")
    if package not in archive.NameToInfo:
        raise UnreadableFileError("damaged EPUB", "it names no package", "get a fresh copy of the file")
    tags = start_tags(read_part(archive, package, file, config))
    folder = posixpath.dirname(package)
    places = {
        values.get("id"): posixpath.normpath(posixpath.join(folder, unquote(values.get("href", ""))))
        for tag, values in tags
        if tag == "item"
    }
    wanted = [values.get("idref") for tag, values in tags if tag == "itemref"]
    return [places[one] for one in wanted if one in places]


def _encrypted(archive: zipfile.ZipFile, file: InputFile, config: TextConfig) -> set[str]:
    if _ENCRYPTION not in archive.NameToInfo:
        return set()
    tags = start_tags(read_part(archive, _ENCRYPTION, file, config))
    return {unquote(values.get("URI", "")) for tag, values in tags if tag == "CipherReference"}


def _decoded(page: bytes) -> str:
    """A chapter's text: Unicode as the standard has it, or what it declares."""
    import io

    encoding = detect_encoding(io.BytesIO(page), declared_encoding(page[:4096]))
    return page[len(encoding.mark) :].decode(encoding.name, "replace")
