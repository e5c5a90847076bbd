"""Text files, source code, JSON lines, JSON arrays and Parquet, plain or gzipped, as a stream of documents.

Memory holds one document and one block of its file. An unreadable file is counted and left out where it occurs in a
folder, and an error where the user named it. A file's text is cut into documents of at most `max_document_chars`; so is
each row of JSON and Parquet.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import groupby
from typing import TypeVar

from parakit.common.errors import UserError
from parakit.data.chunking import chunk
from parakit.data.cleaning.gutenberg import strip_gutenberg
from parakit.data.config import TextConfig
from parakit.data.documents import Document, make_document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.fetching.remote_inputs import fetched
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import Members, TextPart
from parakit.data.readers.formats.recognition import is_compressed_twice, recognize
from parakit.data.readers.formats.registry import Format
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths, input_files
from parakit.data.readers.lines import (
    UnreadableFileError,
    is_drive_error,
    normalize_newlines,
    open_input,
)

Item = TypeVar("Item")
ReadFile = Callable[[InputFile, TextConfig, ReadReport], Iterator[Document]]
GIVE_UP_ROWS = 1_000  # a file whose first rows are all broken is not read to its end


def read_documents(
    config: TextConfig,
    report: ReadReport,
    *,
    paths: Sequence[str] | None = None,
    seen: DigestSet | None = None,
    read: ReadFile | None = None,
) -> Iterator[Document]:
    """Stream the documents of `config.paths` (or of `paths`), counting into `report`.

    `seen` holds the files of earlier calls, which are not read again. `read` reads one file instead of `read_file`. Raises
    `UserError` for a named path that is missing, empty, binary or damaged, for a path without any text, and when more than
    half of all rows are broken.
    """
    paths = config.paths if paths is None else paths
    seen = DigestSet() if seen is None else seen
    check_paths(paths)
    for path in paths:
        n_before, skipped_before = report.documents, report.skipped.copy()
        for file in input_files(path, config, report, seen):
            yield from (read or read_file)(file, config, report)
        skipped = report.skipped - skipped_before
        if report.documents == n_before and not report.broken_rows and set(skipped) != {"already read"}:
            raise _no_text_error(path, skipped)
    if report.broken_rows * 2 > report.rows:
        source, broken = next(iter(report.broken_files.items()))
        raise _broken_rows_error(source, broken.why, report.broken_rows, report.rows, config)


def try_to_read(file: InputFile, config: TextConfig, report: ReadReport) -> bool:
    """Whether `file` has a text that can be read; the reason why not is counted in `report`. Reads up to the first one."""
    probe = ReadReport()
    for _ in read_file(replace(file, named=False), config, probe):
        return True
    for source, reason in probe.skipped_files or [(file.source, "no row can be read")]:
        report.skip(source, *reason.split(": ", 1))
    return False


def read_file(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[Document]:
    """The documents of a file and of the files inside it; one that cannot be read is counted, or a `UserError` where the
    user named it.
    """
    n_before, n_skipped = report.documents, report.skipped.total()
    try:
        if file.remote:
            with fetched(file, file.remote) as copy:
                yield from read_file(copy, config, report)
            return
        before = _state(file)
        file, form = recognize(file)
        if file.compression and (not form.streams or is_compressed_twice(file)):
            with Members(file, config, report) as members, open_input(file, config) as stream:
                yield from read_file(members.decompressed(stream), config, report)
            return
        n_texts = yield from _read_format(file, form, config, report)
        nothing = report.documents == n_before and report.skipped.total() == n_skipped
        if nothing and file.source not in report.broken_files:
            raise UnreadableFileError("empty", "nothing is left of it", "give a file with text in it")
        if _state(file) != before:
            report.count_changed(file.source)
        if n_texts:
            report.files += 1
            report.formats[form.title] += 1
    except UnreadableFileError as unreadable:
        error = _of_the_drive(unreadable) or unreadable
        if file.named:
            detail = f" ({error.detail})" if error.detail else ""
            raise UserError(f"{file.path}: {error.reason}{detail}", error.hint) from None
        report.skip(file.source, error.reason, error.detail)


def _of_the_drive(error: UnreadableFileError) -> UnreadableFileError | None:
    """The error of a drive that vanished, which a library took for damage of the file."""
    cause: BaseException | None = error
    while (cause := cause.__context__ if cause else None) is not None:
        if is_drive_error(cause):
            assert isinstance(cause, OSError)
            why = cause.strerror or str(cause)
            return UnreadableFileError("cannot be read", why, "check its permissions and its drive")
    return None


def _state(file: InputFile) -> tuple[int, int] | None:
    """What tells whether a file changes while it is read: its size and its time of change; None where it vanished."""
    try:
        facts = file.path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def _read_format(
    file: InputFile, form: Format, config: TextConfig, report: ReadReport
) -> Generator[Document, None, bool]:
    """The documents that the reader of `form` finds; returns whether the file itself has text, not only files inside it."""
    module = import_module(f"parakit.data.readers.formats.{form.module}")
    if form.rows:
        yield from _read_rows(_guarded(module.read_rows(file, config, report), form), file, config, report)
        return True
    has_text, damage = False, list[UnreadableFileError]()
    pieces = _until_damage(_guarded(module.read(file, config, report), form), damage)
    for source, group in groupby(
        pieces, lambda piece: piece.source if isinstance(piece, TextPart) else piece
    ):
        if isinstance(source, InputFile):
            yield from read_file(source, config, report)
        else:
            has_text = True
            yield from _documents((piece.text for piece in group), file.source, source, config, report)
    if damage:
        raise damage[0]
    return has_text


def _until_damage(values: Iterator[Item], damage: list[UnreadableFileError]) -> Iterator[Item]:
    """The values before the place where the file cannot be read, so that what they hold is not lost with the rest."""
    try:
        yield from values
    except UnreadableFileError as error:
        damage.append(error)


def _guarded(values: Iterator[Item], form: Format) -> Iterator[Item]:
    """The values of a format's reader, whose libraries may raise anything for bytes that are damaged or hostile."""
    try:
        yield from values
    except (UserError, UnreadableFileError, AssertionError, NameError, ImportError):
        raise
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise UnreadableFileError(f"damaged {form.title}", detail, "get a fresh copy of the file") from None


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


def _broken_rows_error(where: str, why: str, n_broken: int, n_rows: int, config: TextConfig) -> UserError:
    hint = f'a row looks like {{{json.dumps(config.text_field)}: "..."}}; text_field names another field'
    if "'messages'" in why:
        hint = "these rows are conversations: fine-tune on them, or name the field to read with text_field"
    return UserError(f"{where}: {n_broken} of {n_rows} rows cannot be read; {why}", hint)


def _no_text_error(path: str, skipped: Counter[str]) -> UserError:
    hint = "Parakit reads text, web pages, office documents, tables, e-mail, code and archives of them: see docs/text.md"
    if not skipped:
        return UserError(f"{path}: the folder is empty", hint)
    reasons = ", ".join(f"{reason}: {n}" for reason, n in sorted(skipped.items()))
    return UserError(f"{path}: no text found; left out: {reasons}", hint)
