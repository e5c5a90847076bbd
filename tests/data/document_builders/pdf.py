"""PDF files of known text, by reportlab: one or two columns, several fonts, running heads, hyphenation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class PdfLayout:
    """How a text is set."""

    n_columns: int = 1
    font: str = "Times-Roman"
    size: float = 10.0
    justified: bool = True
    indented: bool = True
    """Paragraphs begin with an indent; else with a gap."""
    head: str = ""
    """A running head on every page."""
    page_numbers: bool = True
    hyphenated: bool = False
    title_over_columns: bool = False


LAYOUTS = [
    PdfLayout(),
    PdfLayout(2),
    PdfLayout(head="A Reader of Many Books", indented=False),
    PdfLayout(2, head="Proceedings of Something", hyphenated=True),
    PdfLayout(font="Helvetica", size=11, justified=False),
    PdfLayout(2, font="Helvetica", size=9, justified=False, indented=False),
    PdfLayout(font="Courier", size=9, hyphenated=True),
    PdfLayout(2, font="DejaVuSerif", size=8, title_over_columns=True),
    PdfLayout(font="DejaVuSans", size=12, indented=False, head="Annual Report", hyphenated=True),
    PdfLayout(2, size=11, title_over_columns=True, head="Journal of Tests", page_numbers=False),
    PdfLayout(3, size=8, justified=False),
]


def write_pdf(path: Path, paragraphs: Sequence[str], layout: PdfLayout, title: str = "") -> None:
    """Set paragraphs. Words are hyphenated between a vowel and a consonant, which is enough for a test."""
    from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import BaseDocTemplate, Frame, NextPageTemplate, PageTemplate, Paragraph

    _register_fonts()
    width, height = A4
    margin, gutter, top = 60, 20, 70 if layout.title_over_columns and title else 0
    column = (width - 2 * margin - gutter * (layout.n_columns - 1)) / layout.n_columns

    def frames(below: float) -> list[Frame]:
        return [
            Frame(margin + i * (column + gutter), 70, column, height - 140 - below, 0, 0, 0, 0)
            for i in range(layout.n_columns)
        ]

    def decorate(canvas: object, document: object) -> None:
        canvas.setFont(layout.font, 9)  # type: ignore[attr-defined]
        if layout.head:
            canvas.drawString(margin, height - 50, layout.head)  # type: ignore[attr-defined]
        if layout.page_numbers:
            canvas.drawCentredString(width / 2, 40, str(document.page))  # type: ignore[attr-defined]

    style = ParagraphStyle(
        "body",
        fontName=layout.font,
        fontSize=layout.size,
        leading=1.2 * layout.size,
        alignment=TA_JUSTIFY if layout.justified else TA_LEFT,
        firstLineIndent=1.5 * layout.size if layout.indented else 0,
        spaceAfter=0 if layout.indented else 0.7 * layout.size,
        embeddedHyphenation=2 if layout.hyphenated else 0,
        hyphenationMinWordLength=5,
    )
    heading = ParagraphStyle(
        "title", fontName=layout.font, fontSize=18, leading=24, spaceAfter=12, alignment=TA_CENTER
    )
    first = frames(top)
    if top:
        first.insert(0, Frame(margin, height - 70 - top, width - 2 * margin, top, 0, 0, 0, 0))
    templates = [
        PageTemplate("first", first, onPage=decorate),
        PageTemplate("rest", frames(0), onPage=decorate),
    ]
    story = [NextPageTemplate("rest")]
    if title:
        story.append(Paragraph(escape(title), heading))
    for text in paragraphs:
        story.append(Paragraph(escape(_hyphenated(text) if layout.hyphenated else text), style))
    BaseDocTemplate(str(path), pageTemplates=templates, pagesize=A4, invariant=1).build(story)


def _hyphenated(text: str) -> str:
    return re.sub(r"(?<=[a-z]{2}[aeiou])(?=[bcdfglmnprst][a-z]{2})", "\u00ad", text)


def _register_fonts() -> None:
    from matplotlib import get_data_path
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    for name in ("DejaVuSerif", "DejaVuSans"):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{get_data_path()}/fonts/ttf/{name}.ttf"))
