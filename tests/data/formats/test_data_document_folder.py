"""A folder of documents in forty forms is read whole, each to the letter; damaged ones are named and end nothing."""

from collections import defaultdict
from pathlib import Path

import pytest

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from tests.data.character_accuracy import character_accuracy
from tests.data.damaged_documents import read_damaged
from tests.data.document_folder import build_folder, formats

for library in ("pypdfium2", "reportlab", "docx", "pptx", "openpyxl", "resiliparse", "trafilatura"):
    pytest.importorskip(library)

TEXTS = [
    [
        "The first paragraph of a report about bicycles — with a dash, and “quotes” in it.",
        "Every bicycle has a frame & two wheels; the café next door lends them for 5 € a day, at 100 % of the risk.",
        "A third paragraph says nothing more than that it is the third one, and that it ends here.",
    ],
    [
        "What a second document says differs from the first, so that nothing is taken for a copy of it.",
        "It has {braces}, under_scores, a # sign and a \\ slash, which all have a meaning in some format.",
    ],
]


def read(folder: Path) -> tuple[dict[str, str], ReadReport]:
    report, found = ReadReport(), defaultdict[str, str](str)
    for document in read_documents(TextConfig(paths=(str(folder),), max_document_chars=10**6), report):
        found[document.source.split("/")[1].split(":")[0]] += document.text + "\n\n"
    return found, report


@pytest.mark.long
def test_every_text_of_a_folder_of_all_formats_is_recovered(tmp_path: Path) -> None:
    truths = build_folder(tmp_path, TEXTS, copies=2)
    assert len(truths) >= 60
    assert len(formats()) >= 25
    found, report = read(tmp_path)
    assert report.skipped_files == []
    assert set(found) == set(truths)
    for name, (kind, truth) in truths.items():
        needed = 0.97 if kind.endswith("pdf") else 0.99
        assert character_accuracy(truth, found[name]) >= needed, name


_LIGHT = ["docx", "odt", "pptx", "xlsx", "rtf", "eml", "mbox", "ipynb", "tex", "srt"]


def _originals(tmp_path: Path, only: list[str] | None) -> dict[str, bytes]:
    build_folder(tmp_path / "whole", TEXTS, copies=1, only=only)
    return {path.name: path.read_bytes() for path in sorted((tmp_path / "whole").iterdir())}


def test_damaged_documents_are_read_or_named(tmp_path: Path) -> None:
    assert len(list(read_damaged(_originals(tmp_path, _LIGHT), tmp_path / "damaged", 2))) == 2 * len(_LIGHT)


@pytest.mark.long
def test_two_hundred_damaged_documents_of_each_format_are_read_or_named(tmp_path: Path) -> None:
    for name, seconds, _ in read_damaged(_originals(tmp_path, None), tmp_path / "damaged", 200):
        assert seconds < 60, name
