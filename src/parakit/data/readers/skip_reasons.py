"""Why files are left out by their names, and how to include them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from parakit.data.config import TextConfig
from parakit.data.readers.formats.registry import NOT_TEXT

RUBBISH = frozenset(
    [
        "node_modules",
        "__pycache__",
        "bower_components",
        "site-packages",
        ".git",
        ".hg",
        ".svn",
        "venv",
        "__MACOSX",
    ]
)
"""Folders of copies and of what programs write for themselves."""

WAYS = {
    "hidden": "include: ['.name'] reads it",
    "excluded": "remove the pattern from exclude",
    "unknown kind": "include: ['*.ext'] reads such files as text",
    "not text": "convert it to text first (text recognition, a transcript)",
    "a folder of copies": "include: ['folder'] reads it",
    "a link out of the folder": "follow_links reads it",
    "already read": "the same file is read under another name",
    "a Parakit artifact": "name the folder that it was made of",
    "not a file": "save it as a file first",
    "cannot be read": "check its permissions and the drive that it is on, and run again",
    "empty": "nothing is in it",
    "binary": "convert it to text, or name its encoding with encoding",
    "needs parakit[data]": "pip install 'parakit[data]'",
    "expands too much": "if you trust it, raise max_expansion",
    "too many members": "if you trust it, raise max_members",
    "archives nested too deeply": "unpack the outer archives",
    "a path that leaves the archive": "the archive is damaged or hostile; unpack it with a tool that you trust",
    "encrypted": "remove the password first",
    "generated code": "include: ['NAME'] reads it",
    "minified code": "include: ['NAME'] reads it",
    "vendored code": "include: ['FOLDER'] reads it",
    "not fetched": "run it with fetch (--fetch)",
    "cannot be fetched": "run it with fetch (--fetch) once more; private_addresses allows those of private networks",
    "an error page": "the server had no page there; crawl it again",
    "a record is too long": "take it out of the crawl, and read it by itself",
    "declares entities": "expand them with a program that you trust (xmllint --noent)",
    "an old Office file": "save it in today's format (.docx, .xlsx, .pptx); soffice --headless --convert-to docx *.doc",
    "an Outlook message": "save it as .eml, or export the folder as mbox",
    "a binary workbook": "save it as .xlsx",
    "scanned": "recognize its text first, such as with OCRmyPDF, and give the result",
    "no letters": "print it to a new PDF with other fonts, or recognize its text with OCR",
    "needs too much memory": "divide it into parts",
    "takes too long": "print it to a new PDF",
    "too long": "divide it into parts",
}
"""For each reason the way to include such a file; reasons that begin with "damaged" have one in common."""


def way_to_include(reason: str) -> str:
    """What to do to have a file read that was left out for this reason, with or without its detail; "" where nothing is
    known.
    """
    reason = reason.partition(":")[0]
    return WAYS.get(reason) or ("get a fresh copy of the file" if reason.startswith("damaged") else "")


def is_included(relative: str, config: TextConfig) -> bool:
    """Whether the settings name this path, or a folder on it, so that no rule of names leaves it out."""
    if not config.include:
        return False
    parts = relative.split("/")
    paths = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    return any(_matches(path, pattern) for path in paths for pattern in config.include)


def reason_of_name(relative: str, config: TextConfig, is_folder: bool = False) -> tuple[str, str] | None:
    """Why a file (or folder) of this path inside a folder or archive is left out by its name alone: reason and detail; None
    where it is not, as far as its name says.
    """
    for pattern in config.exclude:
        if _matches(relative, pattern):
            return "excluded", f"matches {pattern}"
    if is_included(relative, config):
        return None
    parts = relative.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden", ""
    if folder := next((part for part in parts if part in RUBBISH), ""):
        return "a folder of copies", folder
    extension = parts[-1].rpartition(".")[2].lower()
    if not is_folder and "." in parts[-1] and extension in NOT_TEXT:
        return "not text", f".{extension}"
    return None


def _matches(relative: str, pattern: str) -> bool:
    pattern = pattern.rstrip("/")
    return fnmatchcase(relative, pattern) or fnmatchcase(relative.rpartition("/")[2], pattern)
