"""Documents in forty forms, made of public-domain books, and what reading them recovers.

Each file is made of a passage of a book of Project Gutenberg by a library of its format (python-docx, python-pptx, openpyxl,
reportlab, the standard library) or by hand. Character accuracy is 1 - edit distance / length of the passage, over texts with
single spaces. The PDF files are set in one to three columns, in five fonts, justified or ragged, with indents or gaps, with
running heads, page numbers and hyphens.
"""

from __future__ import annotations

import gzip
import re
import statistics
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

from benchmarks.harness import DATA, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

PASSAGE = 9_000  # characters
CLOSE = ("docx", "html", "epub", "eml")


@benchmark("document_reading", {
    **{f"{kind}.accuracy": (">= 0.99", f"{kind.upper()}: characters recovered, the worst file") for kind in CLOSE},
    "pdf.one_column.accuracy": (">= 0.97", "PDF in one column: characters recovered, the worst file"),
    "pdf.columns.accuracy": (">= 0.97", "PDF in two or three columns: characters recovered, the worst file"),
    "pdf.paragraphs": (NO_TARGET, "PDF: paragraphs recovered to the letter"),
    "pdf.pages_per_second": (NO_TARGET, "PDF: pages read a second"),
    "others.accuracy": (">= 0.97", "the other formats: characters recovered, the worst file"),
    "files": (">= 60", "files in the folder"),
    "formats": (">= 25", "formats in the folder"),
    "dropped_silently": ("== 0", "files that are neither read nor named"),
})  # fmt: skip
def document_reading(*, data: Path = DATA, work: Path | None = None) -> Figures:
    """Build the folder, read it as `parakit text` does, and compare."""
    from parakit.data.config import TextConfig
    from parakit.data.read_report import ReadReport
    from parakit.data.readers.files import read_documents
    from tests.data.character_accuracy import character_accuracy
    from tests.data.document_folder import build_folder

    texts = [passage(book) for book in sorted((data / "gutenberg").glob("*.txt.gz"))]
    with work_folder(work) as folder:
        truths = build_folder(folder / "documents", texts, copies=2)
        report, found = ReadReport(), defaultdict[str, str](str)
        config = TextConfig(paths=(str(folder / "documents"),), max_document_chars=10**7)
        for document in read_documents(config, report):
            found[document.source.split("/")[1].split(":")[0]] += document.text + "\n\n"
        named = {source.split("/")[1] for source, _ in report.skipped_files}
        accuracy = defaultdict[str, list[float]](list)
        for name, (kind, truth) in truths.items():
            accuracy[kind].append(character_accuracy(truth, found[name]))
        pdf = read_pdf_files(folder, texts)
    worst = {kind: min(values) for kind, values in accuracy.items()}
    worst["eml"] = min(worst["eml"], worst["html.eml"], worst["mbox"])
    return {
        **{f"{kind}.accuracy": worst[kind] for kind in CLOSE},
        **pdf,
        "others.accuracy": min(worst.values()),
        "files": len(truths),
        "formats": len(accuracy),
        "dropped_silently": sum(name not in found and name not in named for name in truths),
        "by_format": {kind: round(value, 5) for kind, value in sorted(worst.items())},
    }


def read_pdf_files(folder: Path, texts: list[list[str]]) -> Figures:
    """One PDF of each book, in all layouts in turn."""
    from parakit.data.readers.formats.pdf.reader import PdfReader
    from tests.data.character_accuracy import character_accuracy
    from tests.data.document_builders.pdf import LAYOUTS, write_pdf

    reader, accuracy = PdfReader(), defaultdict[bool, list[float]](list)
    n_exact = n_paragraphs = n_pages = 0
    seconds: list[float] = []
    for number, text in enumerate(texts):
        layout = LAYOUTS[number % len(LAYOUTS)]
        paragraphs = [p.encode("cp1252", "ignore").decode("cp1252") for p in text]
        title, path = f"The Title of Document {number}", folder / f"{number}.pdf"
        write_pdf(path, paragraphs, layout, title)
        start = time.perf_counter()
        got = reader.read(path)
        seconds.append((time.perf_counter() - start) / reader.n_pages)
        n_pages += reader.n_pages
        accuracy[layout.n_columns > 1].append(character_accuracy("\n\n".join([title, *paragraphs]), got))
        whole = {" ".join(paragraph.split()) for paragraph in got.split("\n\n")}
        n_exact += sum(" ".join(paragraph.split()) in whole for paragraph in paragraphs)
        n_paragraphs += len(paragraphs)
    reader.close()
    return {
        "pdf.one_column.accuracy": min(accuracy[False]),
        "pdf.columns.accuracy": min(accuracy[True]),
        "pdf.paragraphs": n_exact / n_paragraphs,
        "pdf.pages_per_second": 1 / statistics.median(seconds),
        "pdf.files": len(texts),
        "pdf.pages": n_pages,
    }


def passage(book: Path) -> list[str]:
    """Paragraphs from the middle of a book, about `PASSAGE` characters."""
    raw = gzip.decompress(book.read_bytes()).decode("utf-8").replace("\r\n", "\n")
    all_paragraphs = [" ".join(p.split()).replace("_", "") for p in re.split(r"\n\s*\n", raw)]
    chosen: list[str] = []
    for paragraph in islice(all_paragraphs, len(all_paragraphs) // 3, None):
        if len(paragraph) > 20:
            chosen.append(paragraph)
        if sum(map(len, chosen)) > PASSAGE:
            break
    return chosen
