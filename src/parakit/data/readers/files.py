"""Text files, source code, JSON lines, JSON arrays and Parquet, plain or gzipped, as a stream of documents.

Memory holds one document and one block of its file. An unreadable file is counted and left out where it occurs in a
folder, and an error where the user named it. A file's text is cut into documents of at most `max_document_chars`; so is
each row of JSON and Parquet.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from parakit.common.errors import UserError
from parakit.data.chunking import chunk
from parakit.data.cleaning import strip_gutenberg
from parakit.data.config import TextConfig
from parakit.data.documents import Document, make_document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.read_report import ReadReport
from parakit.data.readers.arrays import DuplicateKeyError, iter_array, loads
from parakit.data.readers.inputs import InputFile, check_paths, input_files
from parakit.data.readers.lines import (
    RowStream,
    UnreadableFileError,
    decode_blocks,
    iter_line_blocks,
    normalize_newlines,
    open_input,
    open_text,
)
from parakit.data.readers.parquet import parquet_values
from parakit.data.readers.tracked_row import is_empty, key_name

GIVE_UP_ROWS = 1_000  # a file whose first rows are all broken is not read to its end


def read_documents(
    config: TextConfig,
    report: ReadReport,
    *,
    paths: Sequence[str] | None = None,
    seen: DigestSet | None = None,
) -> Iterator[Document]:
    """Stream the documents of `config.paths` (or of `paths`), counting into `report`.

    `seen` holds the files of earlier calls, which are not read again. Raises `UserError` for a named path that is
    missing, empty, binary or damaged, for a path without any text, and when more than half of all rows are broken.
    """
    paths = config.paths if paths is None else paths
    seen = DigestSet() if seen is None else seen
    check_paths(paths)
    for path in paths:
        n_before, skipped_before = report.documents, report.skipped.copy()
        for file in input_files(path, config, report, seen):
            yield from _read_file(file, config, report)
        skipped = report.skipped - skipped_before
        if report.documents == n_before and not report.broken_rows and set(skipped) != {"already read"}:
            raise _no_text_error(path, skipped)
    if report.broken_rows * 2 > report.rows:
        source, broken = next(iter(report.broken_files.items()))
        raise _broken_rows_error(source, broken.why, report.broken_rows, report.rows, config)


def try_to_read(file: InputFile, config: TextConfig, report: ReadReport) -> bool:
    """Whether `file` has a text that can be read; the reason why not is counted in `report`. Reads up to the first one."""
    probe = ReadReport()
    for _ in _read_file(replace(file, named=False), config, probe):
        return True
    for source, reason in probe.skipped_files or [(file.source, "no row can be read")]:
        report.skip(source, *reason.split(": ", 1))
    return False


def _read_file(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    n_before = report.documents
    try:
        yield from _READERS[file.format](file, config, report)
        if report.documents == n_before and file.source not in report.broken_files:
            raise UnreadableFileError("empty", "nothing is left of it", "give a file with text in it")
        report.files += 1
    except UnreadableFileError as error:
        if file.named:
            detail = f" ({error.detail})" if error.detail else ""
            raise UserError(f"{file.path}: {error.reason}{detail}", error.hint) from None
        report.skip(file.source, error.reason, error.detail)


def _read_text(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    with open_text(file, config, report) as stream:
        blocks = decode_blocks(iter_line_blocks(stream, config.max_line_bytes, report))
        yield from _documents(blocks, file.source, file.source, config, report)


def _documents(
    blocks: Iterable[str], file: str, source: str, config: TextConfig, report: ReadReport
) -> Iterator[Document]:
    """Clean and cut one text into documents, and count them."""
    blocks = normalize_newlines(blocks, config, report)
    if config.strip_gutenberg:
        blocks = strip_gutenberg(blocks, report)
    for piece in chunk(blocks, config.max_document_chars):
        document, n_bad = make_document(piece, source)
        if n_bad:
            report.count_bad_bytes(file, n_bad)
        report.documents += 1
        report.bytes += document.n_bytes
        yield document


def _read_rows(
    rows: Iterable[tuple[int, object]], file: InputFile, config: TextConfig, report: ReadReport
) -> Iterator[Document]:
    """Documents of numbered rows. A value is a text, None for a row without one, or the exception of a broken row."""
    n_rows = n_good = n_broken = 0
    why = ""
    for number, value in rows:
        n_rows += 1
        report.rows += 1
        if isinstance(value, Exception):
            n_broken += 1
            why = why or f"row {number}: {value}"
            report.count_broken_row(file.source, number, f"row {number}: {value}")
            if n_broken == GIVE_UP_ROWS and not n_good:
                break
        elif not isinstance(value, str) or not value or value.isspace():
            report.empty_rows += 1
        else:
            n_good += 1
            yield from _documents([value], file.source, f"{file.source}:{number}", config, report)
    if n_broken * 2 > n_rows and file.named:
        raise _broken_rows_error(str(file.path), why, n_broken, n_rows, config)


def _read_json_lines(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    """JSON lines, or one array of rows, whatever the file is called."""
    with open_text(file, config, report) as stream:
        values = _json_values(RowStream(stream), config, report)
        yield from _read_rows(_texts(values, config.text_field, report), file, config, report)


def _read_json(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    """A `.json` file of rows. Inside a folder such a file is more often a setting, and one whose first row has no text is
    left out.
    """
    with open_text(file, config, ReadReport()) as stream:
        first = next((value for _, value in _json_values(RowStream(stream), config, ReadReport())), None)
    if not isinstance(first, dict):
        detail = "it is neither an array of objects nor one object a line"
        raise UnreadableFileError("no rows of text", detail, "to read the file itself as text, name it .txt")
    if not file.named and isinstance(why := _text_of(first, config.text_field), Exception):
        raise UnreadableFileError("no rows of text", str(why))
    yield from _read_json_lines(file, config, report)


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


def _read_parquet(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    with open_input(file, config) as stream:
        yield from _read_rows(parquet_values(stream, file, config, report), file, config, report)


def _broken_rows_error(where: str, why: str, n_broken: int, n_rows: int, config: TextConfig) -> UserError:
    hint = f'a row looks like {{{json.dumps(config.text_field)}: "..."}}; text_field names another field'
    if "'messages'" in why:
        hint = "these rows are conversations: fine-tune on them, or name the field to read with text_field"
    return UserError(f"{where}: {n_broken} of {n_rows} rows cannot be read; {why}", hint)


def _no_text_error(path: str, skipped: Counter[str]) -> UserError:
    hint = "Parakit reads .txt, .md, .jsonl, .json, .parquet, source code, these as .gz, and folders of them"
    if not skipped:
        return UserError(f"{path}: the folder is empty", hint)
    reasons = ", ".join(f"{reason}: {n}" for reason, n in sorted(skipped.items()))
    return UserError(f"{path}: no text found; left out: {reasons}", hint)


_READERS: dict[str, Callable[[InputFile, TextConfig, ReadReport], Iterator[Document]]] = {
    "text": _read_text,
    "jsonl": _read_json_lines,
    "json": _read_json,
    "parquet": _read_parquet,
}
