"""Office documents: what is shown is read, as Markdown; what is deleted, hidden or a macro is not; damage is named."""

import io
import zipfile
from pathlib import Path

import pytest

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def package(path: Path, parts: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def relations(**targets: str) -> str:
    """Relationships of ids (kind_n) to targets."""
    rows = "".join(
        f'<Relationship Id="{i}" Type="{RELATIONS}/{i.split("_")[0]}" Target="{t}"/>'
        for i, t in targets.items()
    )
    return f"<Relationships>{rows}</Relationships>"


def read(path: Path, **settings: object) -> tuple[str, ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path)]} | settings)
    return "".join(document.text for document in read_documents(config, report)), report


def word(tmp_path: Path, body: str, **parts: str) -> str:
    document = f"<w:document {W}><w:body>{body}</w:body></w:document>"
    targets = {name: f"{name}.xml" for name in parts}
    extra = {f"word/{name}.xml": text for name, text in parts.items()}
    return read(
        package(
            tmp_path / "a.docx",
            {"word/document.xml": document, "word/_rels/document.xml.rels": relations(**targets), **extra},
        )
    )[0]


def run(text: str, properties: str = "") -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r>"


def test_tracked_changes_are_accepted_and_hidden_text_is_not_read(tmp_path: Path) -> None:
    body = (
        f"<w:p>{run('It was ')}<w:del><w:r><w:delText>bad</w:delText></w:r></w:del><w:ins>{run('good')}</w:ins>"
        f"{run(' secret', '<w:vanish/>')}{run('.')}</w:p>"
        f"<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{run('One ')}</w:p><w:p>{run('paragraph.')}</w:p>"
        "<w:p><w:r><w:instrText> PAGE </w:instrText></w:r></w:p>"
    )
    assert word(tmp_path, body) == "It was good.\n\nOne paragraph.\n\n"


def test_headings_lists_tables_and_footnotes_are_markdown(tmp_path: Path) -> None:
    styles = (
        f'<w:styles {W}><w:style w:type="paragraph" w:styleId="H"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="H"/></w:style></w:styles>'
    )
    numbering = (
        f'<w:numbering {W}><w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:start w:val="3"/>'
        '<w:numFmt w:val="decimal"/></w:lvl><w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num></w:numbering>'
    )
    notes = f'<w:footnotes {W}><w:footnote w:id="2"><w:p>{run("A note.")}</w:p></w:footnote></w:footnotes>'

    def item(text: str, level: int) -> str:
        return f'<w:p><w:pPr><w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="1"/></w:numPr></w:pPr>{run(text)}</w:p>'

    span = '<w:gridSpan w:val="2"/>'

    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p>{run(text)}</w:p></w:tc>"

    body = (
        f'<w:p><w:pPr><w:pStyle w:val="Mine"/></w:pPr>{run("A heading")}</w:p>'
        f'<w:p>{run("See")}<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        + item("third", 0) + item("inner", 1) + item("fourth", 0)
        + f"<w:tbl><w:tr>{cell('a', span)}{cell('b')}</w:tr>"
        f"<w:tr>{cell('1')}{cell('2|3')}{cell('4')}</w:tr></w:tbl>"
    )  # fmt: skip
    assert word(tmp_path, body, styles=styles, numbering=numbering, footnotes=notes) == (
        "## A heading\n\nSee[^2]\n\n3. third\n    - inner\n4. fourth\n\n"
        "| a |  | b |\n| --- | --- | --- |\n| 1 | 2\\|3 | 4 |\n\n[^2]: A note.\n\n"
    )


def workbook(tmp_path: Path, *sheets: str, strings: str = "", styles: str = "") -> Path:
    names = "".join(f'<sheet name="s{i}" sheetId="{i}" r:id="worksheet_{i}"/>' for i in range(len(sheets)))
    targets = {f"worksheet_{i}": f"sheet{i}.xml" for i in range(len(sheets))}
    return package(
        tmp_path / "a.xlsx",
        {
            "xl/workbook.xml": f"<workbook {S} {R}><sheets>{names}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                sharedStrings_1="sharedStrings.xml", styles_1="styles.xml", **targets
            ),
            "xl/sharedStrings.xml": f"<sst {S}>{strings}</sst>",
            "xl/styles.xml": f"<styleSheet {S}>{styles}</styleSheet>",
            **{
                f"xl/sheet{i}.xml": f"<worksheet {S}><sheetData>{rows}</sheetData></worksheet>"
                for i, rows in enumerate(sheets)
            },
        },
    )


def test_a_workbook_gives_cached_values_dates_and_numbers_as_shown(tmp_path: Path) -> None:
    rows = (
        '<row><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>day</t></is></c><c r="C1" t="str"><v>sum</v></c></row>'
        '<row><c r="A2"><v>0.30000000000000004</v></c><c r="B2" s="1"><v>45351</v></c>'
        '<c r="C2"><f>SUM(A1:A2)</f><v>7</v></c></row>'
        '<row><c r="A3" t="b"><v>1</v></c><c r="B3" s="1"><v>45351.5</v></c><c r="C3" t="e"><v>#N/A</v></c></row>'
    )
    strings = "<si><r><t>na</t></r><r><t>me</t></r><rPh><t>reading</t></rPh></si>"
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    path, report = workbook(tmp_path, rows, rows, strings=strings, styles=styles), ReadReport()
    documents = list(read_documents(TextConfig(paths=(str(path),)), report))
    one = "name: 0.3\nday: 2024-02-29\nsum: 7", "name: TRUE\nday: 2024-02-29 12:00:00\nsum: #N/A"
    assert [document.text for document in documents] == [*one, *one]
    assert report.rows == 4


def test_a_document_type_is_refused_and_a_bomb_of_zip_is_left_out(tmp_path: Path) -> None:
    entity = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    package(
        tmp_path / "a.docx", {"word/document.xml": f"{entity}<w:document {W}><w:p>&x;</w:p></w:document>"}
    )
    package(
        tmp_path / "b.docx",
        {
            "word/document.xml": f"<w:document {W}><w:p><w:r><w:t>{' ' * (40 << 20)}</w:t></w:r></w:p></w:document>"
        },
    )
    (tmp_path / "c.txt").write_text("whole")
    text, report = read(tmp_path)
    assert text == "whole"
    assert report.skipped == {"damaged XML": 1, "expands too much": 1}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("EncryptedPackage", "encrypted"),
        ("WordDocument", "an old Office file"),
        ("__substg1.0_001A001E", "an Outlook message"),
    ],
)
def test_compound_files_are_named_with_the_way_out(tmp_path: Path, part: str, reason: str) -> None:
    compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + part.encode("utf-16-le")
    (tmp_path / "a.docx").write_bytes(compound)
    (tmp_path / "b.txt").write_text("whole")
    _, report = read(tmp_path)
    assert report.skipped == {reason: 1}


def test_a_document_of_word_reads_as_python_docx_reads_it(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    for text in ("One & two < three", "Tab\tand\nbreak", "déjà vu — ok"):
        document.add_paragraph(text)
    document.save(str(tmp_path / "a.docx"))
    assert read(tmp_path / "a.docx")[0] == "\n\n".join(p.text for p in document.paragraphs) + "\n\n"


def test_an_opendocument_text_collapses_white_space_and_leaves_out_deletions(tmp_path: Path) -> None:
    names = 'xmlns:office="o" xmlns:text="t" xmlns:table="b"'
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion>"
        '</text:changed-region></text:tracked-changes><text:h text:outline-level="2">A  heading</text:h>'
        '<text:p>one\n  two<text:s text:c="2"/>three<text:tab/>four<text:note><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>A note.</text:p></text:note-body></text:note></text:p>"
    )
    content = f"<office:d {names}><office:body><office:text>{body}</office:text></office:body></office:d>"
    path = package(
        tmp_path / "a.odt", {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content}
    )
    assert read(path)[0] == "## A heading\n\none two  three\tfour[^1]\n\n[^1]: A note.\n\n"


def test_rtf_in_several_code_pages_with_a_table_and_a_footnote(tmp_path: Path) -> None:
    (tmp_path / "a.rtf").write_bytes(
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 A;}{\f1\fcharset204 B;}}{\stylesheet{\s1 heading 1;}}"
        rb"\pard\s1 Title\par\pard caf\'e9 \u8364?\f1\'cf\'f0\f0 {\deleted gone}{\v hidden}"
        rb"{\footnote a note}\u-10179?\u-8704?\par\trowd\pard\intbl a\cell b\cell\row\pard end\par{\*\x no}}"
    )
    assert read(tmp_path / "a.rtf")[0] == (
        "# Title\n\ncafé €Пр[^1]\U0001f600\n\n| a | b |\n| --- | --- |\n\nend\n\n[^1]: a note\n\n"
    )


def test_notes_and_titles_of_slides_come_in_the_order_of_the_slides(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    show = pptx.Presentation()
    for title in ("First", "Second"):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, "one\ntwo"
        slide.notes_slide.notes_text_frame.text = f"about {title}"
    order = show.slides._sldIdLst
    order.insert(0, order[1])
    buffer = io.BytesIO()
    show.save(buffer)
    (tmp_path / "a.pptx").write_bytes(buffer.getvalue())
    assert read(tmp_path / "a.pptx")[0] == (
        "## Second\n\n- one\n- two\n\nNotes: about Second\n\n## First\n\n- one\n- two\n\nNotes: about First\n\n"
    )
