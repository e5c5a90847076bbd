"""JSON of any schema: JSON lines, one array of rows, or one object that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.arrays import DuplicateKeyError, iter_array, loads
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import RowStream, UnreadableFileError, iter_line_blocks, open_text
from parakit.data.readers.row_texts import row_texts, text_of

_HINT = "name the field that holds the text with text_field; to read the file itself as text, name it .txt"
_DEPTH = 3  # objects around the rows


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts. Inside a folder a `.json` is more often a setting, and one whose rows have no text is left out."""
    if file.format == "json" and (whole := _whole_object(file, config)) is not None:
        rows = enumerate(_rows_inside(whole), 1)
        yield from row_texts(_checked(rows, file, config), file, config, report)
        return
    with open_text(file, config, report) as stream:
        values = _json_values(RowStream(stream), config, report)
        if file.format == "json":
            values = _checked(values, file, config)
        yield from row_texts(values, file, config, report)


def _checked(
    rows: Iterator[tuple[int, object]], file: InputFile, config: TextConfig
) -> Iterator[tuple[int, object]]:
    """The rows; `UnreadableFileError` where the first is none, or in a folder where none of the first has text."""
    held = []
    for number, row in rows:
        held.append((number, row))
        if not isinstance(row, Mapping):
            detail = "it is neither an array of objects nor one object a line"
            raise UnreadableFileError("no rows of text", detail, _HINT)
        if len(held) == 20:
            break
    if not file.named:
        report = ReadReport()
        texts = [text for _, text in row_texts(held, file, config, report)]
        if all(isinstance(text, Exception) for text in texts) or (len(held) == 1 and report.found_fields):
            why = text_of(held[0][1], config.text_field) if held else "it is empty"
            raise UnreadableFileError("no rows of text", str(why), _HINT)
    yield from held
    yield from rows


def _whole_object(file: InputFile, config: TextConfig) -> Mapping[str, object] | None:
    """The one object that a file of JSON is, where it is one, over several lines, and no larger than a row may be."""
    with open_text(file, config, ReadReport()) as stream:
        text = stream.read(config.max_line_bytes + 1)
    if not text.lstrip().startswith(b"{") or len(text) > config.max_line_bytes:
        return None
    value = _parsed(text)
    return value if isinstance(value, Mapping) else None


def _rows_inside(value: Mapping[str, object]) -> list[object]:
    """The longest list of objects inside of an object; itself where there is none."""
    found: list[list[object]] = []

    def look(value: object, depth: int) -> None:
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            found.append(value)
        elif isinstance(value, Mapping) and depth < _DEPTH:
            for item in value.values():
                look(item, depth + 1)

    look(value, 0)
    return max(found, key=len) if found and "text" not in value else [value]


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


def _parsed(line: bytes) -> object:
    try:
        return loads(line.decode("utf-8", "surrogateescape"))
    except DuplicateKeyError as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON ({error})")
