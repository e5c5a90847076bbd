"""Notebooks (.ipynb, formats 3 and 4 of Jupyter): Markdown cells as they are, code cells fenced, outputs left out."""

from __future__ import annotations

import json
from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.whole import read_whole, whole_text
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, open_text


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a notebook, whole."""
    with open_text(file, config, report) as stream:
        yield from whole_text(notebook_blocks(read_whole(stream)), file.source)


def notebook_blocks(data: str) -> Iterator[str]:
    """The cells of a notebook, each with the blank line after it. `UnreadableFileError` for one that is no notebook."""
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError("damaged notebook", f"not JSON ({error})"[:200]) from None
    if not isinstance(notebook, dict):
        raise UnreadableFileError("damaged notebook", "not a JSON object")
    language = _language(notebook)
    for cell in _cells(notebook):
        kind = cell.get("cell_type")
        text = _joined(cell.get("source", cell.get("input"))).strip("\n")
        if not text.strip():
            continue
        if kind == "code":
            yield f"```{language}\n{text}\n```\n\n"
        elif kind == "heading":  # of format 3
            level = cell.get("level")
            yield f"{'#' * (level if isinstance(level, int) and 0 < level < 7 else 1)} {text}\n\n"
        else:
            yield text + "\n\n"


def _cells(notebook: dict[str, object]) -> Iterator[dict[str, object]]:
    holders = [notebook, *(w for w in _list(notebook.get("worksheets")) if isinstance(w, dict))]
    if not any("cells" in holder for holder in holders):
        raise UnreadableFileError("damaged notebook", "it has no cells")
    for holder in holders:
        yield from (cell for cell in _list(holder.get("cells")) if isinstance(cell, dict))


def _language(notebook: dict[str, object]) -> str:
    metadata = notebook.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        value = metadata.get(key)
        if isinstance(value, dict) and isinstance(value.get(name), str):
            return str(value[name]).strip().lower()[:40]
    return "python"


def _joined(source: object) -> str:
    if isinstance(source, str):
        return source
    return "".join(line for line in _list(source) if isinstance(line, str))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
