"""Parquet and Arrow (Feather): the texts of one column, or of rows by a template."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.arrow_messages import declared_size
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import (
    UnreadableFileError,
    decompression_bomb_error,
    expansion_limit,
    open_input,
)
from parakit.data.readers.parquet import parquet_rows, parquet_values, table_columns
from parakit.data.readers.row_texts import row_texts

_MARK = 8  # bytes before the stream that a file holds
_ROWS = 64  # rows of Arrow that become Python values at once


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts."""
    with open_input(file, config) as stream:
        if file.format == "arrow":
            yield from row_texts(_arrow_rows(file, config), file, config, report)
            return
        names = table_columns(stream, file, config)
    with open_input(file, config) as stream:
        if config.text_template is None and (config.text_field != "text" or "text" in names):
            yield from parquet_values(stream, file, config, report)
        else:
            yield from row_texts(parquet_rows(stream, file, config), file, config, report)


def _arrow_rows(file: InputFile, config: TextConfig) -> Iterator[tuple[int, object]]:
    """Rows of an Arrow file or stream, whose sizes are checked before it is decompressed, and each batch in full before it
    is used.
    """
    import pyarrow
    from pyarrow import feather, ipc

    limit, n_bytes, number = expansion_limit(file.size(), config), 0, 0
    try:
        with pyarrow.OSFile(str(file.path)) as source:
            if source.read(4) == b"FEA1":
                batches = iter(feather.read_table(str(file.path), memory_map=False).to_batches(_ROWS))
            else:
                source.seek(0)
                start = _MARK if source.read(6) == b"ARROW1" else 0
                source.seek(start)
                declared = 0
                for message in ipc.MessageReader.open_stream(source):
                    declared += declared_size(message)
                    if declared > limit:
                        raise decompression_bomb_error(config)
                source.seek(start)
                batches = iter(ipc.open_stream(source))
            for batch in batches:
                batch.validate(full=True)
                n_bytes += batch.nbytes
                if n_bytes > limit:
                    raise decompression_bomb_error(config)
                for start in range(0, batch.num_rows, _ROWS):
                    for row in batch.slice(start, _ROWS).to_pylist():
                        number += 1
                        yield number, row
    except (pyarrow.ArrowException, OSError, MemoryError, ValueError) as error:
        detail = str(error).split("\n")[0][:200]
        raise UnreadableFileError("damaged Arrow", detail, "get a fresh copy of the file") from None
