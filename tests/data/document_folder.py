"""A folder of documents in all formats, made of known texts, with the text that reading each has to give."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.data.document_builders import mail, office, plain
from tests.data.document_builders.pdf import LAYOUTS, write_pdf

Builder = Callable[[Path, str, list[str]], str]
_BUILDERS: dict[str, Builder] = {
    "txt": plain.write_text, "md": plain.write_text, "rst": plain.write_text, "adoc": plain.write_text,
    "utf16.txt": plain.write_text, "latin1.txt": plain.write_text, "html": plain.write_html, "xhtml": plain.write_html,
    "epub": plain.write_epub, "xml": plain.write_xml, "csv": plain.write_csv, "tsv": plain.write_csv,
    "jsonl": plain.write_json, "json": plain.write_json, "parquet": plain.write_columns, "arrow": plain.write_columns,
    "ipynb": plain.write_notebook, "tex": plain.write_latex, "srt": plain.write_subtitles, "vtt": plain.write_subtitles,
    "docx": office.write_docx, "docm": office.write_docx, "odt": office.write_odt, "fodt": office.write_odt,
    "pptx": office.write_pptx, "odp": office.write_odp, "xlsx": office.write_xlsx, "ods": office.write_ods,
    "fods": office.write_ods, "rtf": office.write_rtf, "eml": mail.write_eml, "html.eml": mail.write_eml,
    "mbox": mail.write_mbox,
}  # fmt: skip
_COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "txt.gz": gzip.compress,
    "txt.xz": lzma.compress,
    "txt.bz2": bz2.compress,
    "zip": lambda data: _zip({"inner/a.txt": data}),
    "tar.gz": lambda data: gzip.compress(_tar({"inner/a.txt": data})),
}


def formats() -> list[str]:
    """The names of all formats that `build_folder` writes."""
    return [*_BUILDERS, "pdf", "columns.pdf", *_COMPRESSED]


def build_folder(
    folder: Path, texts: Sequence[Sequence[str]], copies: int = 2, only: Sequence[str] | None = None
) -> dict[str, tuple[str, str]]:
    """Write `copies` files of each format (or of those in `only`); returns (format, text) by the file's name. The texts are
    lists of paragraphs, taken in turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truths: dict[str, tuple[str, str]] = {}
    number = 0
    for kind in formats() if only is None else only:
        for copy in range(copies):
            paragraphs = list(texts[number % len(texts)])
            number += 1
            title = f"Report number {number}"
            prefix, _, suffix = kind.rpartition(".") if kind in _BUILDERS else ("", "", kind)
            name = f"{prefix or suffix.replace('.', '_')}-{copy}.{suffix}"
            path = folder / name
            if kind in _BUILDERS:
                if prefix == "latin1":
                    paragraphs = [p.encode("cp1252", "ignore").decode("cp1252") for p in paragraphs]
                truth = _BUILDERS[kind](path, title, paragraphs)
            elif kind in _COMPRESSED:
                truth = "\n\n".join([title, *paragraphs])
                path.write_bytes(_COMPRESSED[kind](truth.encode()))
            else:
                columns = [layout for layout in LAYOUTS[:10] if (layout.n_columns > 1) == (kind != "pdf")]
                name = f"{kind.replace('.', '_')}-{copy}.pdf"
                paragraphs = [p.encode("cp1252", "ignore").decode("cp1252") for p in paragraphs]
                paragraphs *= max(
                    1, 9_000 // sum(map(len, paragraphs))
                )  # several pages, so that heads repeat
                write_pdf(folder / name, paragraphs, columns[copy % len(columns)], title)
                truth = "\n\n".join([title, *paragraphs])
            truths[name] = kind, truth
    return truths


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
