"""All of a document's text or nothing: a document that turns out to be damaged in its middle is left out as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.lines import UnreadableFileError

IN_MEMORY = 2**24  # bytes; more go to a temporary file
BLOCK = 2**20
MAX_BYTES = 2**26


def whole_text(blocks: Iterable[str], source: str) -> Iterator[TextPart]:
    """The blocks as pieces of one text, once the last of them is there. Memory: 16 MiB."""
    with tempfile.SpooledTemporaryFile(
        IN_MEMORY, "w+", encoding="utf-8", errors="surrogatepass", newline=""
    ) as held:
        for block in blocks:
            held.write(block)
        held.seek(0)
        while piece := held.read(BLOCK):
            yield TextPart(piece, source)


def read_whole(stream: IO[bytes]) -> str:
    """The text of a stream of UTF-8; `UnreadableFileError` for one of more than 64 MiB, which such formats never are."""
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnreadableFileError(
            "too long", f"over {MAX_BYTES // 2**20} MiB", "divide it into several files"
        )
    return data.decode("utf-8", "surrogateescape")
