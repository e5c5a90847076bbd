"""Office documents of known text: by python-docx, python-pptx and openpyxl; OpenDocument and RTF by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

TABLE = [["Part", "Weight"], ["frame", "12 kg"], ["wheel", "3 kg"]]
MARKDOWN_TABLE = "| Part | Weight |\n| --- | --- |\n| frame | 12 kg |\n| wheel | 3 kg |"
_NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{full}:1.0"'
    for name, full in (
        ("office", "office"),
        ("text", "text"),
        ("table", "table"),
        ("draw", "drawing"),
        ("presentation", "presentation"),
    )
)


def write_docx(path: Path, title: str, paragraphs: list[str]) -> str:
    import docx

    document = docx.Document()
    document.add_heading(title, 1)
    for text in paragraphs:
        paragraph = document.add_paragraph()
        first, space, rest = text.partition(" ")
        paragraph.add_run(first + space).bold = True
        paragraph.add_run(rest)
    for item in ("first thing", "second thing"):
        document.add_paragraph(item, style="List Bullet")
    table = document.add_table(0, 2)
    for row in TABLE:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.sections[0].header.paragraphs[0].text = "A running head"
    document.save(str(path))
    return "\n\n".join([f"# {title}", *paragraphs, "- first thing\n- second thing", MARKDOWN_TABLE])


def write_pptx(path: Path, title: str, paragraphs: list[str]) -> str:
    import pptx

    show = pptx.Presentation()
    truth = []
    for number, text in enumerate(paragraphs, 1):
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = f"{title}, {number}"
        slide.placeholders[1].text = f"{text}\nA second point."
        slide.notes_slide.notes_text_frame.text = f"Remember number {number}."
        truth.append(
            f"## {title}, {number}\n\n- {text}\n- A second point.\n\nNotes: Remember number {number}."
        )
    show.save(str(path))
    return "\n\n".join(truth)


def write_xlsx(path: Path, title: str, paragraphs: list[str]) -> str:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["number", "body"])
    for row in enumerate(paragraphs, 1):
        book.active.append(row)
    book.save(path)
    return "\n\n".join(paragraphs)


def write_odt(path: Path, title: str, paragraphs: list[str]) -> str:
    body = f'<text:h text:outline-level="1">{escape(title)}</text:h>'
    body += "".join(f"<text:p>{escape(p)}</text:p>" for p in paragraphs)
    body += "<text:list>" + "".join(
        f"<text:list-item><text:p>{item}</text:p></text:list-item>"
        for item in ("first thing", "second thing")
    )
    body += f"</text:list>{_odf_table(TABLE)}"
    _write_odf(path, "text", body)
    return "\n\n".join([f"# {title}", *paragraphs, "- first thing\n- second thing", MARKDOWN_TABLE])


def write_ods(path: Path, title: str, paragraphs: list[str]) -> str:
    rows = [["number", "body"], *([str(n), p] for n, p in enumerate(paragraphs, 1))]
    _write_odf(path, "spreadsheet", _odf_table(rows))
    return "\n\n".join(paragraphs)


def write_odp(path: Path, title: str, paragraphs: list[str]) -> str:
    pages = "".join(
        f"<draw:page><draw:frame><draw:text-box><text:p>{escape(p)}</text:p></draw:text-box></draw:frame></draw:page>"
        for p in [title, *paragraphs]
    )
    _write_odf(path, "presentation", pages)
    return "\n\n".join([title, *paragraphs])


def _odf_table(rows: list[list[str]]) -> str:
    return (
        '<table:table table:name="One">'
        + "".join(
            "<table:table-row>"
            + "".join(f"<table:table-cell><text:p>{escape(c)}</text:p></table:table-cell>" for c in row)
            + '<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
            for row in rows
        )
        + '<table:table-row table:number-rows-repeated="1000000"><table:table-cell/></table:table-row></table:table>'
    )


def _write_odf(path: Path, kind: str, body: str) -> None:
    inner = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    if path.suffix.startswith(".f"):
        path.write_text(
            f"<?xml version='1.0'?><office:document {_NAMESPACES}>{inner}</office:document>", "utf-8"
        )
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        package.writestr(
            "content.xml",
            f"<?xml version='1.0'?><office:document-content {_NAMESPACES}>{inner}</office:document-content>",
        )


def write_rtf(path: Path, title: str, paragraphs: list[str]) -> str:
    def coded(text: str) -> str:
        text = text.replace("\\", "\\\\").replace("{", "\\{").replace("}", "\\}")
        return "".join(c if ord(c) < 128 else f"\\u{ord(c)}?" for c in text)

    body = "".join(f"\\pard {coded(p)}\\par\n" for p in paragraphs)
    path.write_text(
        "{\\rtf1\\ansi\\deff0{\\fonttbl{\\f0 Times;}}{\\stylesheet{\\s0 Normal;}{\\s1 heading 1;}}{\\info{\\title no}}\n"
        f"{{\\header a head\\par}}\\pard\\s1 {coded(title)}\\par\n{body}}}",
        encoding="ascii",
    )
    return "\n\n".join([f"# {title}", *paragraphs])
