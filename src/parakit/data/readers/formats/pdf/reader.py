"""Reads PDF files through a child process, which is kept for the next file and replaced when it crashes or hangs."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.page_marks import without_marks
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError

MEMORY_LIMIT = 2 * 2**30
SECONDS_A_PAGE = 30.0  # without a sign of life
SECONDS_A_FILE = 900.0
MAX_TEXT = 2**30
BLOCK = 2**20
MAX_LINE = 2**22
_CRASHED = "its reader crashed"
_HINTS = {
    "scanned": "recognize its text first, such as with OCRmyPDF, and give the result",
    "encrypted": "save it without a password",
    "no letters": "print it to a new PDF with other fonts, or recognize its text with OCR",
}


class PdfReader:
    """`read(path)` gives a file's text; `scanned` are then its pages, from 1, that are pictures without text."""

    def __init__(
        self, seconds_a_page: float = SECONDS_A_PAGE, seconds_a_file: float = SECONDS_A_FILE
    ) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._held = b""
        self._seconds_a_page, self._seconds_a_file = seconds_a_page, seconds_a_file
        self.n_pages = 0
        self.scanned: list[int] = []
        self.n_heads = 0
        self.n_broken = 0

    def read(self, path: Path, mark_pages: bool = False) -> str:
        """The text of a file, with marks where pages begin if they are wanted. `UnreadableFileError` where there is none, and
        where the child crashes or hangs.
        """
        request = json.dumps({"path": os.path.abspath(path)}).encode() + b"\n"
        answer, text = self._first_answer(request) or self._last_answer(request)
        if reason := answer.get("reason"):
            if reason == "needs too much memory":
                self.close()
            hint = _HINTS.get(reason, "open it and save it again")
            raise UnreadableFileError(reason, str(answer.get("detail", "")), hint)
        self.n_pages, self.scanned = answer["n_pages"], answer["scanned"]
        self.n_heads, self.n_broken = answer["n_heads"], answer["n_broken"]
        marked = text.decode("utf-8", "replace")
        return marked if mark_pages else without_marks(marked)

    def _first_answer(self, request: bytes) -> tuple[dict, bytes] | None:
        """The answer, where the child does not crash; it may have ended for another reason than this file."""
        try:
            return self._last_answer(request)
        except UnreadableFileError as error:
            if error.detail != _CRASHED:
                raise
            return None

    def _last_answer(self, request: bytes) -> tuple[dict, bytes]:
        try:
            return self._answer(request)
        except (BrokenPipeError, EOFError):
            reason, detail = "damaged PDF", _CRASHED
        except TimeoutError as error:
            reason, detail = "takes too long", str(error)
        except (ValueError, KeyError):
            reason, detail = "damaged PDF", "its reader gave no answer"
        self.close()
        raise UnreadableFileError(reason, detail, "print it to a new PDF")

    def close(self) -> None:
        """End the child process."""
        child, self._child, self._held = self._child, None, b""
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def _answer(self, request: bytes) -> tuple[dict, bytes]:
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(request)
        child.stdin.flush()
        end = time.monotonic() + self._seconds_a_file
        while not (line := self._line(child.stdout, end)).strip():
            pass
        answer = json.loads(line)
        n_bytes = int(answer["n_bytes"])
        if not 0 <= n_bytes <= MAX_TEXT:
            raise ValueError("too long")
        while len(self._held) < n_bytes:
            self._held += self._block(child.stdout, end)
        text, self._held = self._held[:n_bytes], self._held[n_bytes:]
        return answer, text

    def _line(self, pipe: IO[bytes], end: float) -> bytes:
        while b"\n" not in self._held:
            if len(self._held) > MAX_LINE:
                raise ValueError("too long")
            self._held += self._block(pipe, end)
        line, _, self._held = self._held.partition(b"\n")
        return line

    def _block(self, pipe: IO[bytes], end: float) -> bytes:
        """The next bytes of the child, which are there within the time for a page."""
        left = min(self._seconds_a_page, end - time.monotonic())
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if left <= 0 or not selector.select(left):
                raise TimeoutError(f"over {self._seconds_a_page:.0f} seconds for a page")
        block = os.read(pipe.fileno(), BLOCK)
        if not block:
            raise EOFError
        return block

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "parakit.data.readers.formats.pdf.worker", str(MEMORY_LIMIT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._child


_shared: PdfReader | None = None


def shared_reader() -> PdfReader:
    """The reader of this process, whose child ends with it."""
    global _shared
    if _shared is None:
        _shared = PdfReader()
        atexit.register(_shared.close)
    return _shared


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The text of a file; its pages that are pictures without text are counted."""
    reader = shared_reader()
    text = reader.read(file.path, file.mark_pages)
    report.count_scanned_pages(file.source, len(reader.scanned))
    report.running_heads += reader.n_heads
    if reader.n_broken:
        report.skip(f"{file.source}, {reader.n_broken} pages", "damaged PDF")
    yield TextPart(text, file.source)
