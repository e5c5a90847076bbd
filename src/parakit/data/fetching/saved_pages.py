"""The file in which fetched pages are saved: WARC 1.1 (ISO 28500), which other programs read too, and `readers.formats.warc`.

A page is a `response` record under the address as it is in the list; where fetching failed, a `metadata` record has the
reason. Memory holds one page.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from parakit.data.fetching.web_request import Page

_KEPT = ("content-type", "content-encoding", "content-language", "last-modified")
_FAILED = b"fetch-error: "
_MAX_HEADER = 2**16


@dataclass(frozen=True)
class SavedPage:
    """A record: the address, where it is in the file, and why it has no page (None where it has one)."""

    address: str
    start: int
    end: int
    failure: str | None
    status: int = 200

    @property
    def is_good(self) -> bool:
        """Whether the server gave the page."""
        return self.failure is None and self.status == 200


def write_page(file: IO[bytes], address: str, page: Page) -> None:
    """Append the answer of a server."""
    fields = [(name, value) for name, value in page.fields if name.lower() in _KEPT]
    fields += [("Content-Location", page.address), ("Content-Length", str(len(page.body)))]
    head = [f"HTTP/1.1 {page.status} {page.reason}"]
    head += [f"{name}: {' '.join(value.split())}" for name, value in fields]
    content = "\r\n".join([*head, "", ""]).encode("utf-8", "replace") + page.body
    _write(file, "response", address, "application/http; msgtype=response", content)


def write_failure(file: IO[bytes], address: str, reason: str) -> None:
    """Append why an address could not be fetched."""
    content = _FAILED + " ".join(reason.split()).encode("utf-8", "replace")
    _write(file, "metadata", address, "application/warc-fields", content)


def read_index(path: Path) -> Iterator[SavedPage]:
    """The records of a file, as far as they are whole; none of a file that is not there."""
    if not path.is_file():
        return
    size = path.stat().st_size
    with open(path, "rb") as file:
        while (start := file.tell()) < size and file.readline(_MAX_HEADER).startswith(b"WARC/"):
            fields = {}
            while line := file.readline(_MAX_HEADER).strip():
                name, _, value = line.decode("utf-8", "replace").partition(":")
                fields[name.lower()] = value.strip()
            length = fields.get("content-length", "")
            if not length.isdecimal() or (end := file.tell() + int(length) + 4) > size:
                return
            first = file.read(min(int(length), 1_000)).partition(b"\r\n")[0]
            file.seek(end)
            if fields.get("warc-type") == "metadata":
                reason = first.removeprefix(_FAILED).decode("utf-8", "replace")
                yield SavedPage(fields.get("warc-target-uri", ""), start, end, reason)
            elif fields.get("warc-type") == "response":
                status = first.split(b" ")[1:2] or [b"0"]
                number = int(status[0]) if status[0].isdigit() else 0
                yield SavedPage(fields.get("warc-target-uri", ""), start, end, None, number)


def _write(file: IO[bytes], kind: str, address: str, content_type: str, content: bytes) -> None:
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid4()}>",
        "WARC-Date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "WARC-Target-URI": address,
        "Content-Type": content_type,
        "Content-Length": str(len(content)),
    }
    head = "\r\n".join(["WARC/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""])
    file.write(head.encode() + content + b"\r\n\r\n")
    file.flush()
