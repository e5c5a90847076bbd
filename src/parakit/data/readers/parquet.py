"""Parquet: the texts of one column, or whole rows, a few at a time.

Memory is bounded by the file's pages, not by its size. A file whose declared size, in its footer or in the headers of its
pages, or actual size (through its dictionary) exceeds the allowed multiple of the file is left out, as is everything after
the first damaged page. Texts of a column are read as bytes, so that invalid UTF-8 is counted as in other formats. In whole
rows a null is the same as a key that is not there: every object in a column has the keys of all of them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, Any

from parakit.common.settings import closest_match
from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError, decompression_bomb_error, expansion_limit
from parakit.data.readers.parquet_pages import page_sizes
from parakit.data.readers.tracked_row import key_name

_ROWS = 8  # rows decoded at once: slower when fewer, and a hostile page is repeated this often when more


def parquet_values(
    stream: IO[bytes], file: InputFile, config: TextConfig, report: ReadReport
) -> Iterator[tuple[int, object]]:
    """Row numbers (from 1) and texts (None where null) of the column `config.text_field`; `report` counts the others.

    Raises `UnreadableFileError` where the file is damaged, has no such column, or expands too much.
    """
    import pyarrow  # here: slow to import, and most corpora need none of it

    row = n_bytes = 0
    with _open_table(stream, file, config, (config.text_field,)) as (table, limit):
        _check_column(table, config.text_field)
        others = (key_name(name) for name in table.schema_arrow.names if name != config.text_field)
        report.ignore(others, table.metadata.num_rows)
        for batch in table.iter_batches(batch_size=_ROWS, columns=[config.text_field], use_threads=False):
            values = batch.column(0)
            if pyarrow.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            for value in values.cast(pyarrow.large_binary()):
                row += 1
                text = value.as_py()
                n_bytes += len(text or b"")
                if n_bytes > limit:
                    raise decompression_bomb_error(config)
                yield row, None if text is None else text.decode("utf-8", "surrogateescape")


def parquet_rows(
    stream: IO[bytes], file: InputFile, config: TextConfig
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers (from 1) and rows, without nulls at any depth.

    Raises `UnreadableFileError` where the file is damaged, has two columns of one name, expands too much, or has a row
    over `config.max_line_bytes`.
    """
    number = n_bytes = 0
    with _open_table(stream, file, config) as (table, limit):
        if (twice := _name_twice(table.schema_arrow)) is not None:
            raise UnreadableFileError("two columns of one name", repr(twice), "rename one of them")
        for batch in table.iter_batches(batch_size=_ROWS, use_threads=False):
            n_bytes += batch.nbytes
            if n_bytes > limit:
                raise decompression_bomb_error(config)
            for i in range(batch.num_rows):
                number += 1
                row = batch.slice(i, 1)
                if batch.nbytes > config.max_line_bytes and row.nbytes > config.max_line_bytes:
                    detail = f"row {number} is over {config.max_line_bytes:,} bytes"
                    raise UnreadableFileError("a row is too long", detail, "cut its text, or remove it")
                (values,) = row.to_pylist()
                yield number, _without_nulls(values)


def table_columns(stream: IO[bytes], file: InputFile, config: TextConfig) -> list[str]:
    """The names of the columns; `UnreadableFileError` for a damaged file."""
    with _open_table(stream, file, config, ()) as (table, _):
        return list(table.schema_arrow.names)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _open_table(
    stream: IO[bytes], file: InputFile, config: TextConfig, columns: Collection[str] | None = None
) -> Iterator[tuple[Any, int]]:
    """The table, of which `columns` will be read (None: all), and the bytes to which it may expand. Errors of pyarrow become
    `UnreadableFileError`.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with tempfile.TemporaryFile() as unpacked:
            if file.compression:
                shutil.copyfileobj(stream, unpacked)  # Parquet is read from its end
                stream = unpacked
            size = stream.seek(0, os.SEEK_END)
            if size == 0:
                raise UnreadableFileError("empty", hint="give a file with text in it")
            limit = expansion_limit(min(size, file.size()), config)
            table = parquet.ParquetFile(stream, buffer_size=65_536, pre_buffer=False)
            for group in range(table.metadata.num_row_groups):
                # not the column's own size: pyarrow 26 aborts the process when a column's metadata are damaged
                if table.metadata.row_group(group).total_byte_size > limit:
                    raise decompression_bomb_error(config)
            n_bytes = 0
            for size in page_sizes(stream, columns):
                n_bytes += size
                if n_bytes > limit:
                    raise decompression_bomb_error(config)
            yield table, limit
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        detail = str(error).split("\n")[0][:200]
        raise UnreadableFileError(
            "damaged Parquet", detail, "get a fresh copy of the file, or leave it out (exclude)"
        ) from None


def _name_twice(fields: Any) -> str | None:
    """A name that two columns have, or two fields of an object in a column; None where there is none."""
    seen = set()
    for field in fields:
        if field.name in seen:
            return field.name
        seen.add(field.name)
        kind = field.type
        if (inner := _name_twice([kind.field(i) for i in range(kind.num_fields)])) is not None:
            return inner
    return None


def _check_column(table: Any, name: str) -> None:
    """Raise `UnreadableFileError` where the column is missing or holds no text."""
    import pyarrow

    names = table.schema_arrow.names
    if name not in names:
        close = closest_match(name, names)
        hint = (
            f"text_field names the column; did you mean {close!r}?"
            if close
            else "text_field names the column"
        )
        raise UnreadableFileError("no such column", f"{name!r}; it has {', '.join(names)[:200]}", hint)
    if names.count(name) > 1:
        raise UnreadableFileError("two columns of one name", repr(name), "rename one of them")
    kind = table.schema_arrow.field(name).type
    value = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    is_text = (
        pyarrow.types.is_string,
        pyarrow.types.is_large_string,
        pyarrow.types.is_string_view,
        pyarrow.types.is_binary,
        pyarrow.types.is_large_binary,
    )
    if not any(check(value) for check in is_text):
        raise UnreadableFileError(
            "no text in the column", f"{name!r} is {kind}", "name another column with text_field"
        )
