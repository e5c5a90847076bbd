"""The text of one e-mail (RFC 5322, MIME): a short head, the body, and its attachments as files.

Of a message in several forms the plain text is taken, else the HTML. Headers are decoded (RFC 2047); a header or a charset
that cannot be is taken as it is. Nothing that a message refers to is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime

from parakit.data.readers.formats.mail.quotes import FORWARDED, split_quotes

MAX_PARTS = 1_000
MAX_DEPTH = 20
MAX_MARKED = 2**21  # characters of a page in which quotes are looked for by their tags
HEADERS = ("Subject", "From", "To", "Date")

HtmlToText = Callable[[str], str]
_QUOTE_ELEMENT = re.compile(
    r"<blockquote\b[^>]{0,500}\btype=[\"']?cite[^>]*>(?:(?!<blockquote\b).)*?</blockquote>", re.I | re.S
)
_QUOTE_START = re.compile(
    r"<(?:div|blockquote)\b[^>]{0,500}(?:gmail_quote|yahoo_quoted|divRplyFwdMsg|moz-cite-prefix)[^>]*>", re.I
)


@dataclass
class MailText:
    """`text`: head and body; `attachments`: (file name, content)."""

    text: str
    n_quoted: int = 0
    n_signature: int = 0
    attachments: list[tuple[str, bytes]] = field(default_factory=list)


def mail_text(data: bytes, html_to_text: HtmlToText, keep_quotes: bool = False) -> MailText:
    """The text of a message. `html_to_text(page)` reads a body that is only HTML."""
    message = message_from_bytes(data)
    bodies: list[tuple[str, bool]] = []
    attachments: list[tuple[str, bytes]] = []
    n_quoted = 0
    for number, part in enumerate(_leaves(message, 0)):
        if number >= MAX_PARTS:
            break
        kind, name = part.get_content_type(), _file_name(part)
        if kind == "message/rfc822":
            if inner := _parts(part):
                attachments.append((name or "message.eml", inner[0].as_bytes()))
            continue
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes) or not content.strip():
            continue
        if part.get_content_disposition() == "attachment" or name or not kind.startswith("text/"):
            if part.get_content_disposition() == "attachment" or name:
                attachments.append((name or f"part-{number + 1}", content))
        elif kind == "text/html":
            page = decode_text(content, part.get_content_charset())
            if not keep_quotes and len(page) < MAX_MARKED:
                page, n_lines = _without_quotes(page, html_to_text)
                n_quoted += n_lines
            bodies.append((html_to_text(page), True))
        else:
            bodies.append((_plain(part, content), False))
    head = "".join(f"{name}: {value}\n" for name in HEADERS if (value := _header(message, name)))
    result = MailText("", n_quoted, attachments=attachments)
    texts = []
    for body, from_html in bodies:
        body = body.replace("\r\n", "\n")
        if not keep_quotes:
            split = split_quotes(body, from_html)
            body = split.text
            result.n_quoted += split.n_quoted
            result.n_signature += split.n_signature
        if body.strip():
            texts.append(body.strip("\n"))
    result.text = "\n".join(filter(None, [head, "\n\n".join(texts)])).rstrip() + "\n"
    return result


def _leaves(part: Message, depth: int) -> Iterator[Message]:
    """The parts to look at: all of a mixture, the best of the alternatives."""
    parts = _parts(part)
    if not parts or part.get_content_type() == "message/rfc822":
        yield part
    elif depth < MAX_DEPTH:
        best = [_best(parts)] if part.get_content_type() == "multipart/alternative" else parts
        for inner in best:
            yield from _leaves(inner, depth + 1)


def _parts(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _best(alternatives: list[Message]) -> Message:
    def rank(part: Message) -> int:
        kinds = [inner.get_content_type() for inner in part.walk()]
        plain = next((p for p in part.walk() if p.get_content_type() == "text/plain"), None)
        content = None if plain is None else plain.get_payload(decode=True)
        if isinstance(content, bytes) and content.strip():
            return 0
        return 1 if "text/html" in kinds else 2

    return min(alternatives, key=rank)


def _without_quotes(page: str, html_to_text: HtmlToText) -> tuple[str, int]:
    """A page without what mail programs mark as quoted, and its lines of text. A forwarded message stays."""
    quoted: list[str] = []
    start = _QUOTE_START.search(page)
    if start and not FORWARDED.search(page[start.end() : start.end() + 2_000]):
        quoted.append(page[start.start() :])
        page = page[: start.start()]
    while found := _QUOTE_ELEMENT.search(page):
        quoted.append(found[0])
        page = page[: found.start()] + page[found.end() :]
    n_lines = sum(bool(line.strip()) for part in quoted for line in html_to_text(part).splitlines())
    return page, n_lines


def _plain(part: Message, content: bytes) -> str:
    text = decode_text(content, part.get_content_charset())
    if part.get_param("format") == "flowed":
        text = _unflowed(text, part.get_param("delsp") == "yes")
    return text


def _unflowed(text: str, delete_space: bool) -> str:
    """Join the lines of a paragraph that end in a space (RFC 3676, section 4.2); quoted ones stay as they are."""
    parts = []
    for line in text.splitlines():
        if line.endswith(" ") and line != "-- " and not line.startswith(">"):
            parts.append(line[:-1] if delete_space else line)
        else:
            parts.append(line + "\n")
    return "".join(parts)


def decode_text(content: bytes, charset: str | None) -> str:
    """Text in the charset that a part names, in UTF-8, or in Windows-1252; a bad byte becomes a lone surrogate."""
    for name in (charset, "utf-8"):
        try:
            if name:
                return content.decode(
                    "cp1252" if name.lower() in ("iso-8859-1", "us-ascii") and _windows(content) else name
                )
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return content.decode("cp1252", "replace")


def _windows(content: bytes) -> bool:
    """Whether bytes that ISO 8859-1 has as controls occur, which mail programs write as Windows-1252."""
    return any(0x80 <= byte <= 0x9F for byte in content)


def _header(message: Message, name: str) -> str:
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
    raw = decode_text(
        raw.encode("utf-8", "surrogateescape"), "utf-8"
    )  # some programs write UTF-8 without encoding it
    try:
        value = str(make_header(decode_header(raw)))
    except Exception:  # damaged headers raise many kinds of errors in the standard library
        value = raw
    value = " ".join(value.split())
    if name == "Date" and value:
        try:
            return parsedate_to_datetime(value).isoformat(" ", "minutes")
        except (ValueError, TypeError, IndexError, OverflowError):
            return value
    return value


def _file_name(part: Message) -> str:
    try:
        name = part.get_filename()
    except Exception:
        return ""
    if not name:
        return ""
    try:
        return str(make_header(decode_header(name)))
    except Exception:
        return str(name)
