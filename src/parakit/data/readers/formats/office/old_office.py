"""Office files from before 2007 (.doc, .xls, .ppt), Outlook's messages (.msg) and encrypted files of today.

All are OLE compound files, whose formats are binary and whose parsers are many thousands of lines; they are left out with the
way to convert them.
"""

from __future__ import annotations

from typing import NoReturn

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError

LOOKED_AT = 2**22  # bytes, among which the directory of the compound file usually is
_CONVERT = "save it as {0}, or convert a folder with: soffice --headless --convert-to {0} *.{1}"


def read(file: InputFile, config: TextConfig, report: ReadReport) -> NoReturn:
    """Raises `UnreadableFileError` with what the file is and how to have it read."""
    with open(file.path, "rb") as stream:
        data = stream.read(LOOKED_AT)
    if _has(data, "EncryptedPackage"):
        raise UnreadableFileError("encrypted", "", "save it without a password")
    if _has(data, "__substg1.0_"):
        raise UnreadableFileError(
            "an Outlook message", "", "save it as .eml, or export the folder from the mail program as mbox"
        )
    for part, new, old in (
        ("WordDocument", "docx", "doc"),
        ("Workbook", "xlsx", "xls"),
        ("PowerPoint Document", "pptx", "ppt"),
    ):
        if _has(data, part):
            raise UnreadableFileError("an old Office file", f".{old}", _CONVERT.format(new, old))
    raise UnreadableFileError("an old Office file", "", "save it in today's format (.docx, .xlsx, .pptx)")


def _has(data: bytes, name: str) -> bool:
    return name.encode("utf-16-le") in data
