"""Web pages give their main text, books their chapters in order, XML its elements; hostile ones are bounded."""

from __future__ import annotations

import statistics
import zipfile
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats import html
from parakit.data.readers.formats.html import is_nested_deeply, strip_tags, union
from tests.data.readers.test_data_readers_containers import read
from tests.data.web_pages import make_page, word_f1

pytest.importorskip("resiliparse")
pytest.importorskip("trafilatura")


def page_scores(numbers: range) -> dict[str, float]:
    """The mean F1 of Parakit's main text and of the two libraries' own, on the same pages."""
    import trafilatura
    from resiliparse.extract.html2text import extract_plain_text

    from parakit.data.readers.formats.html import main_text

    methods = {
        "parakit": main_text,
        "trafilatura": lambda page: trafilatura.extract(page, include_comments=False) or "",
        "trafilatura, recall": lambda page: (
            trafilatura.extract(page, include_comments=False, favor_recall=True) or ""
        ),
        "resiliparse": lambda page: extract_plain_text(
            page, main_content=True, comments=False, alt_texts=False
        ),
    }
    pages = [make_page(number) for number in numbers]
    return {
        name: statistics.mean(word_f1(f(page), text) for page, text in pages) for name, f in methods.items()
    }


def test_the_main_text_is_found_better_than_by_either_library() -> None:
    scores = page_scores(range(10))
    assert scores["parakit"] >= max(scores.values())
    assert scores["parakit"] > 0.97


@pytest.mark.long
def test_the_main_text_of_200_pages_is_found_better_than_by_either_library() -> None:
    scores = page_scores(range(200))
    assert scores["parakit"] >= max(scores.values())
    assert scores["parakit"] > 0.98


def test_lines_that_only_the_other_has_are_put_in_at_their_place() -> None:
    text = "one two three four five\nten eleven twelve thirteen"
    other = "a new first line here\none two three four five\nsix seven eight nine\nten eleven twelve thirteen"
    assert union(text, other) == "\n".join(
        [
            "a new first line here",
            "one two three four five",
            "six seven eight nine",
            "ten eleven twelve thirteen",
        ]
    )
    assert union(text, "") == text


def test_a_page_in_a_declared_encoding_without_scripts_and_entities(tmp_path: Path) -> None:
    page = (
        '<html><head><meta http-equiv="content-type" content="text/html; charset=windows-1251"><script>x</script></head>'
        "<body><p>Привет, мир: текст &lt;страницы&gt; &amp; ещё</p></body></html>"
    )
    (tmp_path / "a.html").write_bytes(page.encode("cp1251"))
    [document], report = read(tmp_path / "a.html")
    assert document.text.strip() == "Привет, мир: текст <страницы> & ещё"
    assert report.formats == {"HTML": 1}


def test_a_page_nested_deeply_or_large_is_read_as_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_TREE", 10_000)
    deep = "<div>" * 5_000 + "the text deep inside" + "</div>" * 5_000
    assert is_nested_deeply(deep)
    assert not is_nested_deeply("<p>a<li>b<td>c<br>" * 2_000)
    (tmp_path / "deep.html").write_text(deep)
    row = "<div class=x><p>Some <b>words</b> &amp; more of %06d</p><script>if (a<b) x()</script></div>\n"
    (tmp_path / "large.html").write_text("<html><body>" + "".join(row % i for i in range(5_000)))
    documents, report = read(tmp_path, max_document_chars=10**8, deduplicate=False)
    assert documents[0].text.strip() == "the text deep inside"
    lines = documents[1].text.split("\n")
    assert [line for line in lines if line] == [f"Some words & more of {i:06d}" for i in range(5_000)]
    assert not report.skipped


def test_tags_are_stripped_the_same_however_the_page_is_cut() -> None:
    page = "<p>a &lt; b</p><style>p {}</style><p class='x>y'>c<script>d</script>e</p><!-- f --> g"
    whole = "".join(strip_tags([page]))
    for size in (1, 2, 7, 30):
        cut = "".join(strip_tags(page[i : i + size] for i in range(0, len(page), size)))
        assert cut.split() == whole.split()


def write_epub(path: Path, chapters: dict[str, bytes], spine: list[str], encrypted: str = "") -> None:
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    items = "".join(f'<item id="{name}" href="{name.replace(" ", "%20")}"/>' for name in chapters)
    order = "".join(f'<itemref idref="{name}"/>' for name in spine)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", container)
        package = f"<package><manifest>{items}</manifest><spine>{order}</spine></package>"
        archive.writestr("OEBPS/book.opf", package)
        if encrypted:
            reference = f'<encryption><CipherReference URI="OEBPS/{encrypted}"/></encryption>'
            archive.writestr("META-INF/encryption.xml", reference)
        for name, content in chapters.items():
            archive.writestr(f"OEBPS/{name}", content)


def test_the_chapters_of_a_book_come_in_the_order_of_its_spine(tmp_path: Path) -> None:
    old = '<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>Au café</p></body></html>'.encode(
        "latin-1"
    )
    chapters = {
        "b 1.xhtml": b"<html><body><h1>First</h1><p>It begins.</p></body></html>",
        "a.xhtml": old,
        "nav.xhtml": b"<html><body>Contents</body></html>",
        "locked.xhtml": b"\x13\x14\x15",
    }
    write_epub(tmp_path / "a.epub", chapters, ["b 1.xhtml", "locked.xhtml", "a.xhtml"], "locked.xhtml")
    [document], report = read(tmp_path / "a.epub")
    assert document.text.split() == ["First", "It", "begins.", "Au", "café"]
    assert report.skipped_files == [("a.epub/OEBPS/locked.xhtml", "encrypted")]


def test_xml_of_any_schema_gives_the_text_of_its_elements(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        "<?xml version='1.0'?><!DOCTYPE r SYSTEM 'http://example.org/r.dtd'><r><!-- no --><t a='no'>A title</t>\n"
        "<p>Some <b>bold</b>, and <i>more</i>.</p><p><i>It</i> begins: a &lt; b &#233;</p><x><y>one</y><y>two</y></x></r>"
    )
    [document], _ = read(tmp_path / "a.xml")
    assert document.text == "A title\nSome bold, and more.\nIt begins: a < b é\none\ntwo"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><l>&b;</l>", "declares entities"),
        ("<!DOCTYPE l [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><l>x &a;</l>", "declares entities"),
        ("<a>" * 2_000, "nested over"),
        ("<a><b>text</a>", "mismatched tag"),
    ],
)
def test_xml_that_expands_reads_files_or_is_damaged_is_refused(
    tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(UserError, match=says):
        read(tmp_path / "a.xml")


def test_the_text_before_the_damage_of_xml_stays(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<r><p>one</p><p>two")
    found: tuple[list[Document], ReadReport] = read(tmp_path)
    assert [document.text for document in found[0]] == ["one\ntwo"]
    assert found[1].skipped == {"damaged XML": 1}
