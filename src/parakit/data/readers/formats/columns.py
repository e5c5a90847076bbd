"""Parquet: the texts of one column."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import open_input
from parakit.data.readers.parquet import parquet_values


def read_rows(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[tuple[int, object]]:
    """Numbered texts of the column."""
    with open_input(file, config) as stream:
        yield from parquet_values(stream, file, config, report)
