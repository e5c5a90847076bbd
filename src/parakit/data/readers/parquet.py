"""Parquet: the texts of one column, a few rows at a time.

Memory is bounded by the file's pages, not by its size. A column whose declared or actual size (through its dictionary)
exceeds the allowed multiple of the file is left out, as is everything after the first damaged page. Values are read as
bytes, so that invalid UTF-8 is counted as in other formats.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from parakit.common.settings import closest_match
from parakit.data.config import TextConfig
from parakit.data.readers.inputs import InputFile
from parakit.data.readers.lines import UnreadableFileError, decompression_bomb_error, expansion_limit

_ROWS = 8  # rows decoded at once: slower when fewer, and a hostile page is repeated this often when more


def parquet_values(stream: IO[bytes], file: InputFile, config: TextConfig) -> Iterator[tuple[int, object]]:
    """Row numbers (from 1) and texts (None where null) of the column `config.text_field`.

    Raises `UnreadableFileError` where the file is damaged, has no such column, or expands too much.
    """
    import pyarrow  # here: slow to import, and most corpora need none of it

    try:
        if file.gzipped:
            with tempfile.TemporaryFile() as unpacked:  # Parquet is read from its end
                shutil.copyfileobj(stream, unpacked)
                yield from _values(unpacked, file, config)
        else:
            yield from _values(stream, file, config)
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        detail = str(error).split("\n")[0][:200]
        raise UnreadableFileError(
            "damaged Parquet", detail, "get a fresh copy of the file, or leave it out (exclude)"
        ) from None


def _values(stream: IO[bytes], file: InputFile, config: TextConfig) -> Iterator[tuple[int, object]]:
    import pyarrow
    from pyarrow import parquet

    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise UnreadableFileError("empty", hint="give a file with text in it")
    limit = expansion_limit(min(size, file.path.stat().st_size), config)
    table = parquet.ParquetFile(stream, buffer_size=65_536, pre_buffer=False)
    _check_column(table, config.text_field)
    for group in range(table.metadata.num_row_groups):
        # not the column's own size: pyarrow 26 aborts the process when a column's metadata are damaged
        if table.metadata.row_group(group).total_byte_size > limit:
            raise decompression_bomb_error(config)
    row = n_bytes = 0
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
