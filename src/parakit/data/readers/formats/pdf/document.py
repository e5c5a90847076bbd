"""The text of a PDF file: pages, running heads, columns, paragraphs. Runs in the child process only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.data.page_marks import page_mark, without_repeats
from parakit.data.readers.formats.pdf.characters import PageText, Segment, page_text
from parakit.data.readers.formats.pdf.layout import page_columns
from parakit.data.readers.formats.pdf.paragraphs import document_text
from parakit.data.readers.formats.pdf.running_heads import without_running_heads

MAX_PAGES = 20_000
MAX_UNMAPPED = 0.3  # share of the characters whose font does not say what letters they are


class PdfError(Exception):
    """A file that cannot be read: a reason and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)


@dataclass
class PdfText:
    """`text` has marks where pages begin. `scanned`: pages, from 1, that have a picture and no text; `n_heads`: rows of
    running heads taken away.
    """

    text: str
    n_pages: int
    scanned: list[int]
    n_heads: int
    n_broken: int


def pdf_text(path: Path, on_page: Callable[[], None] = lambda: None) -> PdfText:
    """Read a file; `on_page` is called after each page. `PdfError` for one that is encrypted, damaged or without text."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
        n_pages = len(document)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower() or "security" in str(error).lower():
            raise PdfError("encrypted", "it needs a password") from None
        raise PdfError("damaged PDF", str(error)) from None
    if n_pages > MAX_PAGES:
        raise PdfError("damaged PDF", f"{n_pages:,} pages")
    pages, n_broken = _pages(document, n_pages, on_page)
    n_letters = sum(len(s.text) for page in pages for s in page.segments)
    n_unmapped = sum(page.n_unmapped for page in pages)
    scanned = [n for n, page in enumerate(pages, 1) if page.n_images and not page.segments]
    if n_unmapped > MAX_UNMAPPED * (n_letters + n_unmapped):
        raise PdfError("no letters", f"{n_unmapped:,} characters whose font does not say what they are")
    if not n_letters:
        if n_broken:
            raise PdfError("damaged PDF", f"{n_broken} of its {n_pages} pages cannot be read")
        if scanned:
            raise PdfError("scanned", f"{len(scanned)} of its {n_pages} pages are pictures without text")
        raise PdfError("empty", "its pages have no text")
    segments, n_heads = without_running_heads([page.segments for page in pages])
    turned = "".join(
        f"{page_mark(number)}{text}\n\n"
        for number, page in enumerate(pages, 1)
        for text in page.turned
        if text.strip()
    )
    text = without_repeats("".join(_paragraphs(segments)) + turned)
    return PdfText(text, n_pages, scanned, n_heads, n_broken)


def _pages(document: Any, n_pages: int, on_page: Callable[[], None]) -> tuple[list[PageText], int]:
    import pypdfium2

    pages, n_broken = [], 0
    for number in range(n_pages):
        try:
            page = document[number]
            try:
                pages.append(page_text(page))
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            pages.append(PageText())
            n_broken += 1
        on_page()
    return pages, n_broken


def _paragraphs(pages: list[list[Segment]]) -> list[str]:
    columns = [
        column
        for number, segments in enumerate(pages, 1)
        if segments
        for column in page_columns(segments, number)
    ]
    return list(document_text(columns))
