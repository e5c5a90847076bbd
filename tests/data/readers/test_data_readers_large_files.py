"""Files far larger than memory should hold: each is read in a process of its own, whose memory is measured."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
TEXT = "a text that is long enough to be taken for the text of a row"
MEASURE = """
import json, resource, sys
from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
import resiliparse.extract.html2text, trafilatura
small, large = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
sum(1 for _ in read_documents(TextConfig(paths=(small,)), ReadReport()))
before, report = peak(), ReadReport()
n = n_chars = 0
for document in read_documents(TextConfig(paths=(large,)), report):
    n += 1
    n_chars += len(document.text)
print(json.dumps({"n": n, "chars": n_chars, "grown": peak() - before, "skipped": report.skipped_files}))
"""


def measured(small: Path, large: Path) -> dict:
    """Documents and characters of `large`, and the MiB by which the process grew after it had read `small`."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_table_of_a_million_rows(tmp_path: Path) -> None:
    for name, n in (("small.csv", 100), ("large.csv", 1_000_000)):
        with open(tmp_path / name, "w") as file:
            file.write("id,text\n")
            file.writelines(f"{i},{TEXT} {i}\n" for i in range(n))
    found = measured(tmp_path / "small.csv", tmp_path / "large.csv")
    assert found["n"] == 1_000_000
    assert found["grown"] < 32


def test_a_sheet_of_a_million_rows(tmp_path: Path) -> None:
    for name, n in (("small.xlsx", 100), ("large.xlsx", 1_000_000)):
        _workbook(tmp_path / name, n)
    found = measured(tmp_path / "small.xlsx", tmp_path / "large.xlsx")
    assert found["n"] == 1_000_000
    assert found["grown"] < 64


def _workbook(path: Path, n_rows: int) -> None:
    """A sheet with a number and a text of its own in each row, without the program that would hold it whole."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets>'
            "</workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{relations}/worksheet"'
            ' Target="worksheets/sheet1.xml"/></Relationships>',
        )
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(f'<worksheet xmlns="{main}"><sheetData>'.encode())
            names = [f'<c t="inlineStr"><is><t>{name}</t></is></c>' for name in ("id", "text")]
            sheet.write(f"<row>{''.join(names)}</row>".encode())
            for i in range(n_rows):
                text = f'<c t="inlineStr"><is><t>{TEXT} {i}</t></is></c>'
                sheet.write(f"<row><c><v>{i}</v></c>{text}</row>".encode())
            sheet.write(b"</sheetData></worksheet>")


def test_a_page_of_a_hundred_megabytes(tmp_path: Path) -> None:
    n_words = 0
    for name, n in (("small.html", 100), ("large.html", 1_000_000)):
        with open(tmp_path / name, "w") as file:
            file.write(
                "<!doctype html><html><head><title>t</title><script>var a = '<p>';</script></head><body>"
            )
            n_words = 0
            for i in range(n):
                file.write(f"<div class='row'><p>{TEXT} &amp; <b>{i}</b></p><!-- {'x' * 20} --></div>\n")
                n_words += 1
            file.write("</body></html>")
    assert (tmp_path / "large.html").stat().st_size > 100e6
    found = measured(tmp_path / "small.html", tmp_path / "large.html")
    expected = sum(len(f"{TEXT} & {i}") for i in range(n_words))
    assert abs(found["chars"] - expected) < 0.05 * expected
    assert found["grown"] < 200


def test_a_mailbox_of_fifty_thousand_messages_cut_in_the_middle(tmp_path: Path) -> None:
    for name, n in (("small.mbox", 10), ("large.mbox", 50_000)):
        with open(tmp_path / name, "w") as file:
            for i in range(n):
                file.write(
                    f"From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b.example\nSubject: number {i}\n\n{TEXT} {i}\n\n"
                )
    content = (tmp_path / "large.mbox").read_bytes()
    (tmp_path / "large.mbox").write_bytes(content[: len(content) // 2])
    found = measured(tmp_path / "small.mbox", tmp_path / "large.mbox")
    whole = content[: len(content) // 2].count(b"\nSubject: ")
    assert whole - 1 <= found["n"] <= whole
    assert found["grown"] < 32
