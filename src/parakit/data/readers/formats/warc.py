"""WARC and WET: the pages and texts of a crawl, record by record, each under its address.

Pages and documents (`response` and `resource` records with status 200) are read by the readers of their formats; texts
(`conversion` records, of which WET files consist) are taken as they are. Other records hold no document. A page of another
kind, an error page and a record over 64 MiB are counted and named. The standard is ISO 28500.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.encodings import MAX_NUL_SHARE
from parakit.data.readers.formats.content import Members, TextPart, member_source
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_input

MAX_RECORD = 2**26  # bytes of a record that is read
MAX_HEADER = 2**16
_FORMATS = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "text",
    "text/markdown": "text",
}
_FORMATS |= {
    "text/csv": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/pdf": "pdf",
}
_FORMATS |= dict.fromkeys(
    ("text/xml", "application/xml", "application/rss+xml", "application/atom+xml"), "xml"
)
_OFFICE, _OPEN = "vnd.openxmlformats-officedocument.", "vnd.oasis.opendocument."
_BY_BYTES = (
    *(f"{_OFFICE}{kind}" for kind in ("wordprocessingml.document", "presentationml.presentation")),
    *(f"{_OFFICE}spreadsheetml.sheet", f"{_OPEN}text", f"{_OPEN}presentation", f"{_OPEN}spreadsheet"),
    *("octet-stream", "vnd.apache.parquet", "epub+zip", "rtf", "msword", "zip", "gzip", "x-gzip", "x-tex"),
)
"""Kinds of `application/` of which the bytes and the name tell the format."""
_MAX_ADDRESS = 900
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class _Record:
    kind: str
    address: str
    content_type: str
    body: bytes
    is_http: bool


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart | InputFile]:
    """The pages and texts; what follows a damaged place is left out, and the file is named."""
    with (
        open_input(file, config, whole=False) as stream,
        Members(file, config, report, counted=False) as members,
    ):
        for record in _records(stream, file, report):
            source = member_source(file, record.address)
            if record.kind == "conversion":
                yield TextPart(record.body.decode("utf-8", "surrogateescape"), source)
            elif record.kind in ("response", "resource"):
                if (page := _page(record, source, report)) is None:
                    continue
                body, name = page
                if member := members.add(record.address, io.BytesIO(body), filter_names=False):
                    yield replace(member, format=name, compression=None) if name else member


def _records(stream: IO[bytes], file: InputFile, report: ReadReport) -> Iterator[_Record]:
    while True:
        line = stream.readline(MAX_HEADER)
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            raise UnreadableFileError(
                "damaged WARC", f"{line[:40]!r} is no record", "get a fresh copy of the file"
            )
        fields = _fields(stream)
        length = fields.get("content-length", "")
        if not length.isdecimal() or len(length) > 18:
            raise UnreadableFileError(
                "damaged WARC", "a record without a length", "get a fresh copy of the file"
            )
        kind, address = (
            fields.get("warc-type", ""),
            fields.get("warc-target-uri", "").strip("<>")[:_MAX_ADDRESS],
        )
        n_bytes = int(length)
        if n_bytes > MAX_RECORD:
            report.skip(member_source(file, address), "a record is too long", f"{n_bytes:,} bytes")
        body = stream.read(min(n_bytes, MAX_RECORD))
        for start in range(len(body), n_bytes, 2**20):
            if not stream.read(min(2**20, n_bytes - start)):
                break
        if len(body) < min(n_bytes, MAX_RECORD):
            raise UnreadableFileError(
                "damaged WARC", f"it ends within {address}", "get a fresh copy of the file"
            )
        if n_bytes <= MAX_RECORD:
            content_type = fields.get("content-type", "")
            yield _Record(kind, address, content_type, body, content_type.startswith("application/http"))


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """Named fields as far as the empty line, names in lower case."""
    fields: dict[str, str] = {}
    n_bytes = 0
    while line := stream.readline(MAX_HEADER).rstrip(b"\r\n"):
        n_bytes += len(line)
        if n_bytes > MAX_HEADER:
            raise UnreadableFileError(
                "damaged WARC", "a header is over 64 KiB", "get a fresh copy of the file"
            )
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields


def _page(record: _Record, source: str, report: ReadReport) -> tuple[bytes, str | None] | None:
    """The bytes of a page and its format (None: its bytes and name tell); None where it is none to read, which is counted."""
    body, content_type = record.body, record.content_type
    if record.is_http:
        stream = io.BytesIO(body)
        status = stream.readline().split(b" ")[1:2]
        fields = _fields(stream)
        if status != [b"200"]:
            report.skip(source, "an error page", status[0].decode("ascii", "replace")[:20] if status else "")
            return None
        content_type = fields.get("content-type", "text/html")
        try:
            body = _decoded(stream.read(), fields)
        except (ValueError, zlib.error, EOFError) as error:
            report.skip(source, "damaged page", str(error)[:100])
            return None
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "application/pdf" or kind.removeprefix("application/") in _BY_BYTES:
        return body, _FORMATS.get(kind)
    if (name := _FORMATS.get(kind)) is None:
        report.skip(source, "not text", kind[:60])
        return None
    if body.count(0) > MAX_NUL_SHARE * len(body) and "utf-16" not in parameters.lower():
        report.skip(source, "binary", "it has NUL bytes")
        return None
    return _as_utf8(body, parameters), name


def _decoded(body: bytes, fields: dict[str, str]) -> bytes:
    """A body without its transfer and content encoding, at most `MAX_RECORD` long. Crawls often store it so already."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    encoding = fields.get("content-encoding", "").lower()
    if encoding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(body, MAX_RECORD)
    if encoding == "deflate" and body[:1] == b"\x78":
        return zlib.decompressobj().decompress(body, MAX_RECORD)
    if encoding in ("br", "zstd") and not body.lstrip()[:1] == b"<":
        raise ValueError(f"its encoding {encoding} is not read")
    return body


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at)) >= 0:
        try:
            size = int(body[at:end].split(b";")[0], 16)
        except ValueError:
            return (
                body if not parts else b"".join(parts)
            )  # stored without its chunks, though the header says so
        if size <= 0:
            break
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def _as_utf8(body: bytes, parameters: str) -> bytes:
    """The page in the encoding that the server declared, as UTF-8 with a mark; unchanged where it declared none."""
    name = parameters.lower().partition("charset=")[2].strip(" \"'").split(";")[0].strip()
    if not name or name in ("utf-8", "utf8"):
        return body
    try:
        return (
            _UTF8_MARK
            + body.decode("cp1252" if name in ("iso-8859-1", "latin1") else name, "replace").encode()
        )
    except (LookupError, ValueError):
        return body
