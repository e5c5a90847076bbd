"""JSON lines, and JSON that is one array of rows: the text of one field of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.arrays import DuplicateKeyError, iter_array, loads
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import RowStream, UnreadableFileError, iter_line_blocks, open_text
from parakit.data.readers.tracked_row import is_empty, key_name


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts. Inside a folder a `.json` is more often a setting, and one whose first row has no text is left out."""
    if file.format == "json":
        _check_has_rows(file, config)
    with open_text(file, config, report) as stream:
        yield from _texts(_json_values(RowStream(stream), config, report), config.text_field, report)


def _check_has_rows(file: InputFile, config: TextConfig) -> None:
    with open_text(file, config, ReadReport()) as stream:
        first = next((value for _, value in _json_values(RowStream(stream), config, ReadReport())), None)
    if not isinstance(first, dict):
        detail = "it is neither an array of objects nor one object a line"
        raise UnreadableFileError("no rows of text", detail, "to read the file itself as text, name it .txt")
    if not file.named and isinstance(why := _text_of(first, config.text_field), Exception):
        raise UnreadableFileError("no rows of text", str(why))


def _json_values(stream: RowStream, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered values, each as it is parsed, or the exception of a broken row."""
    if stream.is_array:
        yield from iter_array(stream, config.max_line_bytes, "surrogateescape")
        return
    number = 0
    for block in iter_line_blocks(stream, config.max_line_bytes, report):
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()  # empty, after the block's last line end
        for line in lines:
            number += 1
            if line and not line.isspace():
                yield number, _parsed(line)


def _texts(
    values: Iterable[tuple[int, object]], text_field: str, report: ReadReport
) -> Iterator[tuple[int, object]]:
    """The text of each numbered row; its other keys are counted."""
    for number, value in values:
        if isinstance(value, dict):
            report.ignore(key_name(key) for key in value if key != text_field and not is_empty(value[key]))
        yield number, _text_of(value, text_field)


def _parsed(line: bytes) -> object:
    try:
        return loads(line.decode("utf-8", "surrogateescape"))
    except DuplicateKeyError as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON ({error})")


def _text_of(row: object, text_field: str) -> object:
    """The text of a parsed row, None where it has none, or an exception for a broken row."""
    if isinstance(row, Exception):
        return row
    if not isinstance(row, dict):
        return ValueError(f"not a JSON object but {type(row).__name__}")
    if text_field not in row:
        return ValueError(f"no field {text_field!r}, only {', '.join(map(repr, row))}"[:200])
    value = row[text_field]
    if value is None or isinstance(value, str):
        return value
    return ValueError(f"field {text_field!r} is {type(value).__name__}, not text")
