"""PDF files: reading order, paragraphs, running heads, hyphens; what cannot be read is named, and its reader replaced."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from tests.data.character_accuracy import character_accuracy, edit_distance
from tests.data.document_builders.pdf import LAYOUTS, PdfLayout, write_pdf

pytest.importorskip("pypdfium2")
pytest.importorskip("reportlab")

WORDS = ["river", "mountain", "carefully", "remembered", "wandering", "the", "of", "and", "a", "children", "letters", "without",
         "number", "beautiful", "understanding", "through", "small", "light", "evening", "considered", "to"]  # fmt: skip


def paragraphs(n: int, seed: int = 0) -> list[str]:
    """Paragraphs of several sentences each."""
    chosen = random.Random(seed)
    made = []
    for _ in range(n):
        sentences = [
            " ".join(chosen.choices(WORDS, k=chosen.randint(6, 16))) for _ in range(chosen.randint(2, 6))
        ]
        made.append(" ".join(sentence.capitalize() + "." for sentence in sentences))
    return made


def read(path: Path) -> tuple[str, ReadReport]:
    report = ReadReport()
    return "".join(d.text for d in read_documents(TextConfig(paths=(str(path),)), report)), report


def test_the_edit_distance_is_the_one_of_the_definition() -> None:
    def slow(a: str, b: str) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            before, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
        return row[-1]

    chosen = random.Random(3)
    for _ in range(100):
        a, b = ("".join(chosen.choices("abc", k=chosen.randint(0, 12))) for _ in range(2))
        assert edit_distance(a, b) == slow(a, b)


@pytest.mark.parametrize("layout", [LAYOUTS[2], LAYOUTS[3], LAYOUTS[9]], ids=["one", "two", "title over two"])
def test_the_text_of_columns_comes_in_reading_order_as_paragraphs(tmp_path: Path, layout: PdfLayout) -> None:
    texts = paragraphs(24)
    write_pdf(tmp_path / "a.pdf", texts, layout, "A Title over it All")
    text, report = read(tmp_path / "a.pdf")
    assert character_accuracy("\n\n".join(["A Title over it All", *texts]), text) >= 0.999
    found = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    assert sum(paragraph in found for paragraph in texts) >= 0.9 * len(texts)
    assert layout.head not in text
    assert report.running_heads >= 2
    assert report.formats == {"PDF": 1}


def draw(path: Path, pages: list[Callable[..., None]], **settings: object) -> Path:
    """A PDF whose pages are drawn by functions of a reportlab canvas."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), invariant=1, **settings)
    for page in pages:
        page(canvas)
        canvas.showPage()
    canvas.save()
    return path


def lines(*texts: str, x: float = 72, y: float = 700, step: float = 14) -> Callable[..., None]:
    def page(canvas: object) -> None:
        for number, text in enumerate(texts):
            canvas.drawString(x, y - number * step, text)  # type: ignore[attr-defined]

    return page


def test_hyphens_go_where_the_word_goes_on_in_small_letters(tmp_path: Path) -> None:
    page = lines(
        "A long line with a well-known compound in it and then a hyphen-",
        "ated word, then another line that ends in the well-",
        "known compound again, and a double name such as Jean-",
        "Paul, which keeps its hyphen since a capital letter follows it.",
    )
    text, _ = read(draw(tmp_path / "a.pdf", [page]))
    assert "a hyphenated word" in text
    assert "the well-known compound again" in text
    assert "Jean-Paul" in text


def test_a_page_that_is_turned_and_text_along_the_margin_are_read(tmp_path: Path) -> None:
    def turned(canvas: object) -> None:
        canvas.rotate(90)  # type: ignore[attr-defined]
        lines("First line of a turned page, which goes on to its end.", "Second line.", y=-100)(canvas)

    def margin(canvas: object) -> None:
        lines("The text of the page itself, upright.")(canvas)
        canvas.rotate(90)  # type: ignore[attr-defined]
        canvas.drawString(200, -30, "written along the margin")  # type: ignore[attr-defined]

    text, _ = read(draw(tmp_path / "a.pdf", [turned, margin]))
    assert (
        text.index("First line of a turned page")
        < text.index("Second line.")
        < text.index("The text of the page")
    )
    assert "written along the margin" in text


def test_pages_begin_where_the_file_has_them(tmp_path: Path) -> None:
    """Against the text of each page as PDFium gives it."""
    import pypdfium2

    from parakit.data.page_marks import page_starts, pages_of, without_marks
    from parakit.data.readers.formats.pdf.document import pdf_text

    write_pdf(tmp_path / "a.pdf", paragraphs(60, 3), LAYOUTS[3], "A Title")
    marked = pdf_text(tmp_path / "a.pdf").text
    text, starts = page_starts(marked)
    assert text == without_marks(marked) == read(tmp_path / "a.pdf")[0]
    with pypdfium2.PdfDocument(tmp_path / "a.pdf") as document:
        shown = ["".join(page.get_textpage().get_text_range().split()) for page in document]
    assert [page for _, page in starts] == list(range(1, len(shown) + 1))
    assert len(shown) >= 3
    for begin, page in starts[1:]:
        following, before = (
            "".join(part.split()) for part in (text[begin : begin + 20], text[begin - 40 : begin])
        )
        assert following in shown[page - 1]
        assert following not in shown[page - 2]
        assert before[-6:] in shown[page - 2]
    (_, first), (second_begin, second) = starts[:2]
    assert (first, second) == (1, 2)
    assert pages_of(starts, second_begin - 5, second_begin + 5) == [(0, 1), (5, 2)]
    assert pages_of(starts, second_begin, second_begin + 5) == [(0, 2)]
    assert pages_of([(10, 2)], 0, 20) == []


def test_scanned_pages_are_counted_and_a_file_of_them_is_named(tmp_path: Path) -> None:
    def picture(canvas: object) -> None:
        from PIL import Image
        from reportlab.lib.utils import ImageReader

        canvas.drawImage(ImageReader(Image.new("L", (8, 8))), 0, 0, 600, 800)  # type: ignore[attr-defined]

    draw(tmp_path / "scan.pdf", [picture, picture])
    draw(tmp_path / "half.pdf", [picture, lines("This page has text that can be read.")])
    text, report = read(tmp_path)
    assert "This page has text" in text
    assert report.scanned_files == {f"{tmp_path.name}/half.pdf": 1}
    assert report.skipped_files == [
        (f"{tmp_path.name}/scan.pdf", "scanned: 2 of its 2 pages are pictures without text")
    ]


def test_encrypted_and_damaged_files_are_named_and_the_others_read(tmp_path: Path) -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption

    draw(tmp_path / "a.pdf", [lines("secret")], encrypt=StandardEncryption("password"))
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7\nnothing that is one\n")
    draw(tmp_path / "c.pdf", [lines("open text")])
    text, report = read(tmp_path)
    assert text.strip() == "open text"
    assert report.skipped == {"encrypted": 1, "damaged PDF": 1}
    with pytest.raises(UserError, match="encrypted"):
        read(tmp_path / "a.pdf")


def test_a_reader_that_crashes_or_hangs_is_replaced(tmp_path: Path) -> None:
    import os
    import signal

    from parakit.data.readers.formats.pdf.reader import PdfReader
    from parakit.data.readers.lines import UnreadableFileError

    path = draw(tmp_path / "a.pdf", [lines("still here")])
    reader = PdfReader(seconds_a_page=20)
    try:
        assert reader.read(path).strip() == "still here"
        child = reader._child
        assert child is not None
        os.kill(child.pid, signal.SIGSTOP)
        reader._seconds_a_page = 0.2
        with pytest.raises(UnreadableFileError, match="takes too long"):
            reader.read(path)
        reader._seconds_a_page = 20
        assert reader.read(path).strip() == "still here"
        assert reader._child is not None
        reader._child.kill()
        assert reader.read(path).strip() == "still here"
    finally:
        reader.close()
