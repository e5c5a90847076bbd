"""Files of text, rows, web pages, books, notebooks, subtitles and LaTeX with known text, made by hand."""

from __future__ import annotations

import csv
import html
import io
import json
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.feather
from pyarrow import parquet


def write_text(path: Path, title: str, paragraphs: list[str]) -> str:
    text = "\n\n".join([title, *paragraphs]) + "\n"
    path.write_text(
        text, encoding={"utf16": "utf-16", "latin1": "cp1252"}.get(path.stem.split("-")[0], "utf-8")
    )
    return text


def write_html(path: Path, title: str, paragraphs: list[str]) -> str:
    body = "".join(f"<p>{html.escape(p)}</p>\n" for p in paragraphs)
    path.write_text(
        f"<!DOCTYPE html><html><head><title>{html.escape(title)}</title><meta charset='utf-8'></head><body>"
        "<nav><ul><li><a href='/'>Home</a></li><li><a href='/about'>About us</a></li></ul></nav>"
        f"<main><article><h1>{html.escape(title)}</h1>\n{body}</article></main>"
        "<footer>Copyright. <a href='/imprint'>Imprint</a></footer><script>var x = 1;</script></body></html>",
        encoding="utf-8",
    )
    return "\n\n".join([title, *paragraphs])


def write_epub(path: Path, title: str, paragraphs: list[str]) -> str:
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        half = len(paragraphs) // 2
        for name, part in (("a", paragraphs[:half]), ("b", paragraphs[half:])):
            body = "".join(f"<p>{html.escape(p)}</p>" for p in part)
            head = f"<h1>{html.escape(title)}</h1>" if name == "a" else ""
            book.writestr(
                f"OPS/{name}.xhtml",
                f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{head}{body}</body></html>',
            )
        book.writestr(
            "OPS/book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i"><metadata/><manifest>'
            '<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
    return "\n\n".join([title, *paragraphs])


def write_xml(path: Path, title: str, paragraphs: list[str]) -> str:
    body = "".join(f"<para>{html.escape(p, quote=False)}</para>\n" for p in paragraphs)
    path.write_text(
        f"<?xml version='1.0'?>\n<book><title>{html.escape(title)}</title>\n{body}</book>", "utf-8"
    )
    return "\n\n".join([title, *paragraphs])


def write_csv(path: Path, title: str, paragraphs: list[str]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(["number", "body"])
        writer.writerows(enumerate(paragraphs, 1))
    return "\n\n".join(paragraphs)


def write_json(path: Path, title: str, paragraphs: list[str]) -> str:
    rows = [{"text": p, "number": i} for i, p in enumerate(paragraphs)]
    path.write_text(
        "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8"
    )
    return "\n\n".join(paragraphs)


def write_columns(path: Path, title: str, paragraphs: list[str]) -> str:
    table = pyarrow.table({"id": list(range(len(paragraphs))), "text": paragraphs})
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed")
    return "\n\n".join(paragraphs)


def write_notebook(path: Path, title: str, paragraphs: list[str]) -> str:
    code = "total = 0\nfor n in range(3):\n    total += n"
    cells: list[dict[str, object]] = [{"cell_type": "markdown", "source": [f"# {title}"], "metadata": {}}]
    cells += [{"cell_type": "markdown", "source": p, "metadata": {}} for p in paragraphs]
    cells.append(
        {"cell_type": "code", "source": code.splitlines(True), "outputs": [{"text": "3"}], "metadata": {}}
    )
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return "\n\n".join([f"# {title}", *paragraphs, f"```python\n{code}\n```"])


def write_latex(path: Path, title: str, paragraphs: list[str]) -> str:
    def escaped(text: str) -> str:
        for character in "&%$#_{}":
            text = text.replace(character, f"\\{character}")
        return (
            text.replace("--", "-{}-")
            .replace("—", "---")
            .replace("“", "``")
            .replace("”", "''")
            .replace("é", "\\'e")
        )

    body = "\n\n".join(map(escaped, paragraphs))
    path.write_text(
        "\\documentclass{article}\n\\usepackage{graphicx} % a comment\n\\begin{document}\n"
        f"\\section{{{escaped(title)}}}\\label{{sec:a}}\n{body}\n% another\n\\end{{document}}\n",
        encoding="utf-8",
    )
    return "\n\n".join([f"## {title}", *paragraphs])


def write_subtitles(path: Path, title: str, paragraphs: list[str]) -> str:
    words = " ".join(paragraphs).split()
    cues = [" ".join(words[i : i + 6]) for i in range(0, len(words), 6)]
    vtt = path.suffix == ".vtt"
    out = io.StringIO("WEBVTT\n\n" if vtt else "", newline=None)
    out.seek(0, 2)
    for n, cue in enumerate(cues, 1):
        times = [
            f"{t // 3600:02}:{t // 60 % 60:02}:{t % 60:02}{'.' if vtt else ','}000"
            for t in (2 * n, 2 * n + 2)
        ]
        cue = html.escape(cue, quote=False) if vtt else cue
        out.write(f"{n}\n{times[0]} --> {times[1]}\n<i>{cue}</i>\n\n")
    path.write_text(out.getvalue(), encoding="utf-8")
    return " ".join(words)
