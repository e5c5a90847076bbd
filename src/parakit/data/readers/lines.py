"""Decodes the bytes of a file into blocks of whole lines.

Blocks end at line ends, which no UTF-8 sequence crosses, so each can be decoded, searched and parsed by itself. A line over
the limit is left out and counted; its line end stays, so row numbers hold. Memory: one block and one line. A compressed file
is first read through once, so that a damaged or expanding one is left out before any of it is used. Text in another
encoding than UTF-8 comes as UTF-8 (`open_text`).
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.compression import DAMAGE, TITLES, open_compressed
from parakit.data.readers.encodings import (
    BLOCK,
    SAMPLE,
    UnknownEncodingError,
    detect_encoding,
    utf8_stream,
)
from parakit.data.readers.input_file import InputFile

ALWAYS_ALLOWED = 16 * 2**20  # every compressed file may grow to this size


_BINARY_HINT = (
    "give text: .txt, .md, .jsonl, .parquet, source code, or these as .gz; the setting encoding names an encoding that is"
    " not recognized"
)

_DRIVE_ERRORS = {
    getattr(errno, name, None)
    for name in (
        *(
            "ENOENT",
            "EACCES",
            "EPERM",
            "EIO",
            "ESTALE",
            "ENXIO",
            "ENODEV",
            "ENOMEDIUM",
            "EREMOTEIO",
            "ENOLINK",
        ),
        *("ENOTCONN", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN", "EPIPE"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
    )
} - {None}


class UnreadableFileError(Exception):
    """A file that cannot be read: the reason, a detail, and what to do."""

    def __init__(self, reason: str, detail: str = "", hint: str = "") -> None:
        self.reason, self.detail, self.hint = reason, detail, hint
        super().__init__(reason)


def is_drive_error(error: BaseException | None) -> bool:
    """Whether an error comes from the drive or the network that a file is on, not from its bytes."""
    return isinstance(error, OSError) and error.errno in _DRIVE_ERRORS


@contextmanager
def open_input(file: InputFile, config: TextConfig, whole: bool = True) -> Iterator[IO[bytes]]:
    """Open an input file, decompressed; raises `UnreadableFileError` for one that is damaged or expands too much: before any
    of it is used with `whole`, else at the place where that shows.
    """
    try:
        if file.compression and whole:
            _check_expansion(file, config)
        with open_compressed(file.path, file.compression) as stream:
            if file.compression and not whole:
                yield io.BufferedReader(_Bounded(stream, file, config), BLOCK)
            else:
                yield stream
    except DAMAGE as error:
        if file.compression is None:
            raise
        reason = f"damaged {TITLES[file.compression]}"
        raise UnreadableFileError(reason, str(error), "decompress it by hand, or get a fresh copy") from None
    except OSError as error:
        raise UnreadableFileError(
            "cannot be read", error.strerror or str(error), "check its permissions"
        ) from None


@contextmanager
def open_text(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[IO[bytes]]:
    """Open an input file of text, decompressed, as UTF-8 without a byte order mark, and count its encoding.

    Raises `UnreadableFileError` for a file that is empty, binary or damaged. A byte that cannot be decoded is no UTF-8
    either, for `documents.repair` to count.
    """
    with open_input(file, config) as stream:
        sample = stream.read(SAMPLE)
        if not sample or (len(sample) < SAMPLE and sample.isspace()):
            raise UnreadableFileError("empty", hint="give a file with text in it")
        stream.seek(0)
        try:
            encoding = detect_encoding(stream, config.encoding)
        except UnknownEncodingError as error:
            raise UnreadableFileError("binary", str(error), _BINARY_HINT) from None
        report.count_encoding(file.source, encoding.name, encoding.guessed)
        yield utf8_stream(stream, encoding)


def iter_line_blocks(
    stream: IO[bytes] | RowStream, max_line_bytes: int, report: ReadReport
) -> Iterator[bytes]:
    """Blocks of whole lines of a stream of `open_text`."""
    sample = stream.read(SAMPLE)
    pending = bytearray()
    n_over = 0  # bytes so far of a line that is over the limit
    for block in _blocks(sample, stream, min(BLOCK, max_line_bytes)):
        first, last = block.find(b"\n"), block.rfind(b"\n") + 1
        if first < 0:
            n_over, pending = _grow(pending, n_over, block, max_line_bytes)
            continue
        n_line = (n_over or len(pending)) + first
        if n_line > max_line_bytes:
            report.count_long_line(n_line)
            yield block[first:last]
        else:
            yield bytes(pending) + block[:last]
        pending, n_over = bytearray(block[last:]), 0
    if n_over:
        report.count_long_line(n_over)
    elif pending:
        yield bytes(pending)


class RowStream:
    """A stream of `open_text` whose first bytes are looked at: whether it is a JSON array, and whether its lines end in a
    carriage return alone, as on old Macs, which becomes a line feed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._held = stream, stream.read(SAMPLE)
        self._is_mac = b"\r" in self._held.rstrip() and b"\n" not in self._held
        self.is_array = self._held.lstrip().startswith(b"[")

    def read(self, n: int) -> bytes:
        """At most `n` bytes; none at the end."""
        if self._held:
            block, self._held = self._held[:n], self._held[n:]
        else:
            block = self._stream.read(n)
        return block.replace(b"\r", b"\n") if self._is_mac else block


def decode_blocks(blocks: Iterable[bytes]) -> Iterator[str]:
    """Text of UTF-8 blocks; each bad byte is one lone surrogate, for `documents.repair` to count."""
    for block in blocks:
        yield block.decode("utf-8", "surrogateescape")


def normalize_newlines(blocks: Iterable[str], config: TextConfig, report: ReadReport) -> Iterator[str]:
    """Replace and count Windows line ends, unless the settings keep them."""
    for block in blocks:
        if config.newlines == "unix" and "\r\n" in block:
            report.windows_newlines += block.count("\r\n")
            block = block.replace("\r\n", "\n")
        yield block


def expansion_limit(n_compressed: int, config: TextConfig) -> int:
    """The bytes to which a compressed file may grow."""
    return max(ALWAYS_ALLOWED, config.max_expansion * n_compressed)


def decompression_bomb_error(config: TextConfig) -> UnreadableFileError:
    """The error for a compressed file that grows beyond its limit."""
    return UnreadableFileError(
        "expands too much", f"over {config.max_expansion} times", "if you trust it, raise max_expansion"
    )


def charge(file: InputFile, n_bytes: int, config: TextConfig) -> None:
    """Count bytes that come out of `file` against the archive on disk that it is or is in; `UnreadableFileError` where that
    expands too much.
    """
    file.budget.n_bytes += n_bytes
    root = file.size() if file.root_size is None else file.root_size
    if file.budget.n_bytes > expansion_limit(root, config):
        raise decompression_bomb_error(config)


class _Bounded(io.RawIOBase):
    """A decompressed stream that is charged as it is read."""

    def __init__(self, stream: IO[bytes], file: InputFile, config: TextConfig) -> None:
        self._stream, self._file, self._config = stream, file, config

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        # read1, not read: that would lose what it has where it meets the damage
        block: bytes = self._stream.read1(len(buffer))  # type: ignore[attr-defined]
        charge(self._file, len(block), self._config)
        buffer[: len(block)] = block
        return len(block)


def _check_expansion(file: InputFile, config: TextConfig) -> None:
    """Read a compressed file through once, before any of it is used."""
    limit = expansion_limit(file.size(), config)
    n = 0
    with open_compressed(file.path, file.compression) as stream:
        while block := stream.read(BLOCK):
            n += len(block)
            if file.depth:
                charge(file, len(block), config)
            if n > limit:
                raise decompression_bomb_error(config)


def _blocks(sample: bytes, stream: IO[bytes] | RowStream, size: int) -> Iterator[bytes]:
    for start in range(0, len(sample), size):
        yield sample[start : start + size]
    while block := stream.read(size):
        yield block


def _grow(pending: bytearray, n_over: int, block: bytes, limit: int) -> tuple[int, bytearray]:
    """Append a block without a line end to the pending line, or only count it once the line is over the limit."""
    if n_over:
        return n_over + len(block), pending
    pending += block
    return (len(pending), bytearray()) if len(pending) > limit else (0, pending)
