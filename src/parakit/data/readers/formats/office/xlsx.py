"""Workbooks (.xlsx, .xlsm): the rows of each sheet with the values that were saved (ECMA-376 part 1, section 18).

A formula's cell has its cached value; nothing is computed and no macro is looked at. Dates become ISO 8601,
recognized by the cell's number format. Memory: one row; the shared strings lie in a temporary file that is mapped.
"""

from __future__ import annotations

import mmap
import re
import tempfile
from array import array
from collections.abc import Iterator
from datetime import datetime, timedelta

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.csv_tables import named_rows
from parakit.data.readers.formats.office.xml_events import Event, Package, inside, open_package, skip_element
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError
from parakit.data.readers.row_texts import row_texts

MAX_COLUMNS = 16_384  # of a sheet in Excel
_DATE_FORMATS = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}  # built-in ones: 18.8.30
_QUOTED = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.')
_ELAPSED = re.compile(r"\[[hms]+\]", re.IGNORECASE)
_CELL = re.compile(r"([A-Z]{1,3})[0-9]+$")


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts of the rows of all sheets, as those of a CSV file; the numbers of a second sheet go on from the first."""
    with open_package(file, config) as package:
        yield from texts_of_sheets(_sheets(package), file, config, report)


def texts_of_sheets(
    sheets: Iterator[Iterator[list[str]]], file: InputFile, config: TextConfig, report: ReadReport
) -> Iterator[tuple[int, object]]:
    """Numbered texts of the rows of sheets."""
    n_before = 0
    for rows in sheets:
        number = 0
        for number, text in row_texts(named_rows(rows), file, config, report, table=True):
            yield n_before + number, text
        n_before += number


def _sheets(package: Package) -> Iterator[Iterator[list[str]]]:
    main = package.related("", "officeDocument") or "xl/workbook.xml"
    if main.endswith(".bin"):
        raise UnreadableFileError("a binary workbook", "", "save it as .xlsx")
    targets = {ident: part for ident, kind, part in package.relations(main) if kind == "worksheet"}
    parts: list[str] = []
    from_1904 = False
    for kind, name, attributes in package.events(main):
        if kind == "start" and name == "sheet" and (part := targets.get(attributes.get("r:id", ""))):
            parts.append(part)
        elif kind == "start" and name == "workbookPr":
            from_1904 = attributes.get("date1904", "0") in ("1", "true")
    is_date = _date_styles(package, package.related(main, "styles"))
    with _SharedStrings(package, package.related(main, "sharedStrings")) as strings:
        for part in parts:
            if part not in package.names:
                raise UnreadableFileError("damaged zip", f"it has no {part}")
            yield _rows(package.events(part), strings, is_date, datetime(1904, 1, 1) if from_1904 else None)


class _SharedStrings:
    """The table of strings that cells point into, in a temporary file."""

    def __init__(self, package: Package, part: str | None) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (__exit__ closes it)
        self._ends = array("Q", [0])
        events = package.events(part) if part else iter(())
        for kind, name, _ in events:
            if kind == "start" and name == "si":
                self._file.write(data := _string(inside(events)).encode("utf-8", "surrogatepass"))
                self._ends.append(self._ends[-1] + len(data))
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else b""

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._ends) - 1:
            return ""
        return self._map[self._ends[index] : self._ends[index + 1]].decode("utf-8", "replace")

    def __enter__(self) -> _SharedStrings:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._map, mmap.mmap):
            self._map.close()
        self._file.close()


def _string(events: Iterator[Event]) -> str:
    """The text of a string item: its runs, without phonetic ones."""
    parts: list[str] = []
    in_text = False
    for kind, name, _ in events:
        if kind == "start" and name == "rPh":
            skip_element(events)
        elif name == "t" and kind != "text":
            in_text = kind == "start"
        elif kind == "text" and in_text:
            parts.append(name)
    return "".join(parts)


def _date_styles(package: Package, part: str | None) -> list[bool]:
    """Whether each cell format shows a date or a time."""
    codes: dict[str, str] = {}
    found: list[bool] = []
    in_cells = False
    for kind, name, attributes in package.events(part) if part else ():
        if name == "cellXfs":
            in_cells = kind == "start"
        elif kind == "start" and name == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif kind == "start" and name == "xf" and in_cells:
            ident = attributes.get("numFmtId", "0")
            if ident in codes:
                found.append(_is_date_format(codes[ident]))
            else:
                found.append(ident.isdecimal() and int(ident[:5]) in _DATE_FORMATS)
    return found


def _is_date_format(code: str) -> bool:
    if _ELAPSED.search(code):
        return False  # a duration such as [h]:mm: its number is more than a day
    return bool(re.search("[dmyhs]", _QUOTED.sub("", code.split(";")[0]).lower().replace("general", "")))


def _rows(
    events: Iterator[Event], strings: _SharedStrings, is_date: list[bool], epoch: datetime | None
) -> Iterator[list[str]]:
    """The rows of a sheet that have a value."""
    row: list[str] = []
    value: list[str] = []
    cell: dict[str, str] = {}
    taking = False
    for kind, name, attributes in events:
        if kind == "text":
            if taking:
                value.append(name)
        elif kind == "start":
            if name == "row":
                row = []
            elif name == "c":
                cell, value = attributes, []
            elif name in ("v", "t"):
                taking = True
            elif name in ("f", "rPh", "extLst", "conditionalFormatting", "dataValidations"):
                skip_element(events)
        elif name in ("v", "t"):
            taking = False
        elif name == "c":
            _place(row, cell, _value(cell, "".join(value), strings, is_date, epoch))
        elif name == "row":
            while row and not row[-1]:
                row.pop()
            if row:
                yield row


def _place(row: list[str], cell: dict[str, str], text: str) -> None:
    """Put a cell's text into its column; cells without a reference follow each other."""
    column = len(row)
    if match := _CELL.match(cell.get("r", "")):
        column = 0
        for letter in match[1]:
            column = column * 26 + ord(letter) - 64
        column -= 1
    if column >= MAX_COLUMNS or not text:
        if column == len(row) < MAX_COLUMNS:
            row.append("")
        return
    row += [""] * (column + 1 - len(row))
    row[column] = text


def _value(
    cell: dict[str, str], raw: str, strings: _SharedStrings, is_date: list[bool], epoch: datetime | None
) -> str:
    kind = cell.get("t", "n")
    if kind == "s":
        return strings[int(raw)] if raw.isdecimal() and len(raw) < 10 else ""
    if kind == "b":
        return "TRUE" if raw.strip() == "1" else "FALSE"
    if kind == "d":
        return raw.replace("T00:00:00", "").replace("T", " ")
    if kind != "n" or not raw:
        return raw
    try:
        number = float(raw)
    except ValueError:
        return raw
    style = cell.get("s", "0")
    if style.isdecimal() and len(style) < 7 and int(style) < len(is_date) and is_date[int(style)]:
        return _date(number, epoch) or raw
    return f"{number:.15g}" if abs(number) < 1e15 else raw  # as Excel shows it: 0.1, not 0.10000000000000001


def _date(number: float, epoch: datetime | None) -> str | None:
    """A serial number as ISO 8601; with the epoch of 1900, day 60 is Excel's 29 February 1900, which never was."""
    if not 0 <= number < 2_958_466:  # the year 9999
        return None
    if number < 1:
        seconds = round(number * 86_400)
        return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    start = epoch or (datetime(1899, 12, 31) if number < 60 else datetime(1899, 12, 30))
    moment = start + timedelta(seconds=round(number * 86_400))
    return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat(" ")
