"""Which encoding a file of text has, and its text as UTF-8.

A byte order mark decides, then the pattern of NUL bytes (UTF-16 and UTF-32 without a mark), then whether the bytes are
UTF-8. Damaged UTF-8 stays UTF-8, and its bad bytes are counted. What remains is a guess from the lines that are not ASCII,
anywhere in the file: charset-normalizer tells scripts and families apart, and among the encodings of Latin letters the
most frequent one whose text looks no worse than the best is taken. A guess is named in the report, and the setting
`encoding` overrules it.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
import warnings
from dataclasses import dataclass
from typing import IO

BLOCK = 2**20
SAMPLE = 2**16  # bytes that decide what a file is
MAX_CONTROL_SHARE = 0.02  # of characters that no text has
MAX_NUL_SHARE = 0.001
MAX_WORSE = 0.02  # of a Latin encoding's score above the best, to be taken for being more frequent
BAD_BYTE = "\udcff"  # written as b"\xff", which no UTF-8 has: counted like any bad byte

_MARKS = (  # the longer ones first: UTF-32's mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LATIN = (
    "cp1252",
    "iso8859_15",
    "iso8859_2",
    "cp1250",
    "cp1254",
    "mac_roman",
    "cp850",
)  # the most frequent first
_OTHERS = (
    "cp1251", "koi8_r", "cp866", "iso8859_5", "cp1253", "iso8859_7", "cp1255", "cp1256", "cp932", "euc_jp",
    "gb18030", "big5", "cp949", "euc_kr",
)  # fmt: skip
_LATIN_FAMILY = re.compile(
    r"latin|cp125[0247]|iso8859_(?:1|2|3|4|9|10|13|14|15|16)$|mac_|cp(?:437|85\d|86[0135])|hp_"
)
_ESCAPED = (b"\x1b$B", b"\x1b$@", b"\x1b(J")  # ISO-2022-JP: pure ASCII bytes with escapes
_CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_ODD_IN_WORD = re.compile(r"[a-z](?:[A-ZÀ-ÞŠŒŽŸ¹²³]|[^\w\s'’\-–—…@./&])(?=[a-z])")
_PRINTABLE = re.compile(rb"[\t\n\r -~]")
_NOT_ASCII = re.compile("[^\0-\x7f]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """`name` is Python's; `mark` the byte order mark to skip; `guessed`: nothing in the file says so."""

    name: str
    mark: bytes = b""
    guessed: bool = False


class UnknownEncodingError(Exception):
    """Bytes that are no text in any known encoding; the message says what was seen."""


def _count_bad(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return BAD_BYTE * (error.end - error.start), error.end


codecs.register_error("parakit.bad_bytes", _count_bad)


def detect_encoding(stream: IO[bytes], chosen: str | None = None) -> Encoding:
    """The encoding of a seekable stream, which is at its beginning before and after. `chosen` is that of files that
    neither a mark nor their bytes show to be Unicode; None: it is guessed.

    Memory: one block. A file that is UTF-8 is read once more than without detection. `UnknownEncodingError` for binary.
    """
    sample = stream.read(SAMPLE)
    found = _of_mark(sample) or _of_nuls(sample)
    if found is None:
        stream.seek(0)
        found = _of_bytes(stream, sample, chosen)
    stream.seek(0)
    return found


def utf8_stream(stream: IO[bytes], encoding: Encoding) -> IO[bytes]:
    """The text of `stream`, which is at its beginning, as a stream of UTF-8 without a mark. A byte that cannot be decoded
    comes as b"\\xff".
    """
    stream.seek(len(encoding.mark))
    if encoding.name == "utf-8":
        return stream
    return io.BufferedReader(_Transcoder(stream, encoding.name), BLOCK)


class _Transcoder(io.RawIOBase):
    """Reads bytes of any encoding and gives UTF-8."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._held = stream, b""
        self._decoder = codecs.getincrementaldecoder(name)("parakit.bad_bytes")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            block = self._stream.read(BLOCK)
            self._held = self._decoder.decode(block, final=not block).encode("utf-8", "surrogateescape")
            if not block and not self._held:
                return 0
        n = min(len(buffer), len(self._held))
        buffer[:n], self._held = self._held[:n], self._held[n:]
        return n


def _of_mark(sample: bytes) -> Encoding | None:
    return next((Encoding(name, mark) for mark, name in _MARKS if sample.startswith(mark)), None)


def _of_nuls(sample: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark, where the bytes hold more NULs than text of any other encoding."""
    if sample.count(0) <= MAX_NUL_SHARE * len(sample):
        return None
    if (wide := _wide(sample)) is None:
        raise UnknownEncodingError("it has NUL bytes")
    return wide


def _wide(sample: bytes) -> Encoding | None:
    """The encoding in two or four bytes in which the sample is text; None where there is none.

    In the wrong byte order a text's letters are spread over as many blocks of 256 characters as it has letters.
    """
    n_nul = sample.count(0)
    if n_nul < 0.4 * len(sample) and len(_PRINTABLE.findall(sample)) > 0.95 * (len(sample) - n_nul):
        return None  # ASCII with NULs in between: every two of its bytes are a Chinese character
    whole = sample[: len(sample) // 4 * 4]
    found: dict[str, int] = {}
    for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        text = whole.decode(name, "replace")
        if text.count("\ufffd") > 1 or not _looks_like_text(text):  # one: the sample ends within a pair
            continue
        n_unknown = sum(unicodedata.category(c) in ("Cn", "Co") for c in text)
        if text and n_unknown <= MAX_CONTROL_SHARE * len(text):
            found[name] = len({ord(c) >> 8 for c in text})
    return Encoding(min(found, key=lambda name: found[name])) if found else None


def _of_bytes(stream: IO[bytes], sample: bytes, chosen: str | None) -> Encoding:
    """UTF-8 where the whole file is, or nearly; else `chosen` or a guess from its lines with other bytes than ASCII."""
    if any(mark in sample for mark in _ESCAPED) and _decodes(sample, "iso2022_jp"):
        return Encoding("iso2022_jp", guessed=True)
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = bytearray()
    is_utf8 = True
    while block := stream.read(BLOCK):
        if is_utf8 and not (block.isascii() and not decoder.getstate()[0]):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                is_utf8 = False
        if len(seen) < SAMPLE and not block.isascii():
            lines = (line for line in block.split(b"\n") if not line.isascii())
            seen += b"\n".join(lines)[: SAMPLE - len(seen)] + b"\n"
        if not is_utf8 and len(seen) >= SAMPLE:
            break
    if is_utf8:
        try:
            decoder.decode(b"", final=True)
            return Encoding("utf-8")
        except UnicodeDecodeError:
            pass
    raw = bytes(seen)
    if _is_damaged_utf8(raw):
        return Encoding("utf-8")
    name = chosen or _guess(raw)
    if name is None:
        raise UnknownEncodingError("its bytes are text in no known encoding")
    return _checked(Encoding(name, guessed=chosen is None), raw, sample)


def _is_damaged_utf8(raw: bytes) -> bool:
    """Whether more of the characters beyond ASCII are valid UTF-8 than are not."""
    text = raw.decode("utf-8", "surrogateescape")
    n_bad = sum("\udc80" <= character <= "\udcff" for character in text)
    return len(_NOT_ASCII.findall(text)) - n_bad > n_bad


def _guess(raw: bytes) -> str | None:
    """The likeliest encoding of bytes that are not UTF-8; None where nothing fits."""
    from charset_normalizer import from_bytes  # here: most folders need none of it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = from_bytes(raw, cp_isolation=[*_LATIN, *_OTHERS], preemptive_behaviour=False).best()
        if best is not None and not _LATIN_FAMILY.search(best.encoding):
            return str(best.encoding)
        scores = {name: score for name in _LATIN if (score := _strangeness(raw, name)) is not None}
    if not scores:
        return None
    least = min(scores.values())
    return next(name for name in _LATIN if scores.get(name, 2.0) <= least + MAX_WORSE)


def _strangeness(raw: bytes, name: str) -> float | None:
    """How little the bytes look like text in this encoding of Latin letters; None where they cannot be it."""
    from charset_normalizer import from_bytes

    windows_only = any(0x80 <= byte <= 0x9F for byte in raw)
    if name.startswith("iso8859") and windows_only:
        return None
    if name == "iso8859_15" and 0xA4 not in raw:  # the euro sign; without it, Latin-1 as the others read it
        return None
    if not _decodes(raw, name):
        return None
    text = raw.decode(name, "ignore")
    best = from_bytes(raw, cp_isolation=[name], threshold=1.0, preemptive_behaviour=False).best()
    beyond = len(_NOT_ASCII.findall(text)) or 1
    return len(_ODD_IN_WORD.findall(text)) / beyond + (1.0 if best is None else float(best.chaos))


def _decodes(raw: bytes, name: str) -> bool:
    """Whether the bytes are text in this encoding; the last character may be cut."""
    try:
        codecs.getincrementaldecoder(name)().decode(raw)
    except UnicodeDecodeError:
        return False
    return True


def _checked(encoding: Encoding, raw: bytes, sample: bytes) -> Encoding:
    """`encoding`, where it makes text of `raw`; else a wide one that makes text of the sample."""
    if _looks_like_text(raw.decode(encoding.name, "ignore")):
        return encoding
    if not encoding.guessed or (wide := _wide(sample)) is None:
        raise UnknownEncodingError("it has control characters that no text has")
    return wide


def _looks_like_text(text: str) -> bool:
    return len(_CONTROL.findall(text)) <= MAX_CONTROL_SHARE * len(text)
