"""Web pages: the main text, without navigation, advertisements and comments.

resiliparse finds the main text and keeps its order, lists and code; trafilatura misses other blocks than resiliparse does, so
what only trafilatura finds is put in at its place. Both are trees in memory whose cost grows faster than some hostile pages:
a page that is nested deeply, or of over 8 MiB, is not parsed but read as a stream, all of its text in order; one with very
many tags is left to resiliparse alone. Nothing that a page points to is fetched, and scripts are dropped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import IO

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.encodings import BLOCK
from parakit.data.readers.formats.content import TextPart
from parakit.data.readers.formats.declared_encoding import with_declared_encoding
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import open_text

MAX_TREE = 8 * 2**20  # characters of a page that becomes a tree: about 10 seconds and 300 MiB
MAX_DEPTH = 400  # resiliparse's time grows with the square of the depth
MAX_TAGS = 6_000  # trafilatura's time grows with the square of the tags: here below a second
_GRAM = 4  # words that are looked up together

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_VOID = "area base br col embed hr img input link meta source track wbr"
_ENDED_BY_OTHERS = "p li td th tr dt dd option thead tbody tfoot"
_NOT_NESTED = frozenset(f"{_VOID} {_ENDED_BY_OTHERS}".split())
_DROPPED = re.compile(r"<(script|style|noscript|template|svg|math|head)\b", re.IGNORECASE)
_ENDS = {
    name: re.compile(f"</{name}", re.IGNORECASE)
    for name in ("script", "style", "noscript", "template", "svg", "math", "head")
}
_BREAK = re.compile(
    r"</?(?:p|div|br|hr|li|ul|ol|dl|dt|dd|tr|table|h[1-6]|pre|blockquote|section|article|main|header|footer|nav|aside|form"
    r"|figure|figcaption|title|body|html|option)\b[^>]*>",
    re.IGNORECASE,
)
_ANY_TAG = re.compile(r"<[!/?a-zA-Z][^>]*>")
_SPACES = re.compile(r"[ \t\r\f\v]+")
_LINES = re.compile(r" ?\n[ \n]*")
_WORD = re.compile(r"\w+")
MAX_ENTITY = 32
MAX_TAG = 2**16  # characters; a longer one is text that has a bracket in it


def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart]:
    """The main text of the page."""
    with with_declared_encoding(file, config) as config, open_text(file, config, report) as stream:
        page = stream.read(MAX_TREE).decode("utf-8", "surrogateescape")
        following = stream.read(1)
        if not following and not is_nested_deeply(page):
            yield TextPart(main_text(page), file.source)
            return
        for text in strip_tags(_blocks(page, following, stream)):
            yield TextPart(text, file.source)


def main_text(page: str) -> str:
    """The main text of a page that is not nested deeply; all of its text where none of it stands out."""
    from resiliparse.extract.html2text import extract_plain_text

    page = page.encode("utf-8", "replace").decode()
    found = extract_plain_text(page, main_content=True, alt_texts=False, comments=False)
    if page.count("<") <= MAX_TAGS:
        found = union(found, _by_trafilatura(page))
    return found if found.strip() else all_text(page)


def all_text(page: str) -> str:
    """All text of a page, in order: of a book's chapter, or a message."""
    from resiliparse.extract.html2text import extract_plain_text

    if is_nested_deeply(page) or len(page) > MAX_TREE:
        return "".join(strip_tags([page]))
    text = extract_plain_text(page.encode("utf-8", "replace").decode(), main_content=False, alt_texts=False)
    return str(text)


def union(text: str, other: str) -> str:
    """`text` with those lines of `other` put in, each after the line that it follows there, of whose word sequences `text`
    has less than half.
    """
    lines = text.splitlines()
    places = {gram: i for i, line in enumerate(lines) for gram in _grams(line)}
    missing: dict[int, list[str]] = {}
    at = -1
    for line in other.splitlines():
        grams = _grams(line)
        known = [places[gram] for gram in grams if gram in places]
        if 2 * len(known) >= len(grams):
            at = max(known, default=at)
        else:
            missing.setdefault(at, []).append(line)
    if not missing:
        return text
    merged = list(missing.get(-1, []))
    for i, line in enumerate(lines):
        merged += [line, *missing.get(i, [])]
    return "\n".join(merged)


def is_nested_deeply(page: str) -> bool:
    """Whether elements are open inside each other deeper than `MAX_DEPTH`, as far as the tags say."""
    if page.count("<") < MAX_DEPTH:
        return False
    depth = 0
    for slash, name in _TAG.findall(page):
        if name.lower() not in _NOT_NESTED:
            depth += -1 if slash and depth else 1 if not slash else 0
            if depth > MAX_DEPTH:
                return True
    return False


def strip_tags(blocks: Iterable[str]) -> Iterator[str]:
    """The text between the tags of a page that comes in blocks: in bounded memory, without a tree."""
    held, inside = "", ""
    for block in blocks:
        held += block
        text: list[str] = []
        at = 0
        while at < len(held):
            if inside:  # of an element whose text is dropped
                match = _ENDS[inside].search(held, at)
                at = match.start() if match else max(at, len(held) - len(inside) - 2)
                if match is None:
                    break
                inside = ""
            elif match := _DROPPED.search(held, at):
                text.append(held[at : match.start()])
                at, inside = match.end(), match[1].lower()
            else:
                cut = held.rfind("<", max(at, len(held) - MAX_TAG))
                cut = len(held) if cut < 0 or ">" in held[cut:] else cut
                entity = held.rfind("&", max(at, cut - MAX_ENTITY), cut)
                cut = cut if entity < 0 or ";" in held[entity:cut] else entity
                text.append(held[at:cut])
                at = cut
                break
        held = held[at:]
        if plain := _plain("".join(text)):
            yield plain
    if not inside and (plain := _plain(held)):
        yield plain


def _plain(marked: str) -> str:
    text = _ANY_TAG.sub("", _BREAK.sub("\n", marked.replace("\n", " ")))
    return _LINES.sub("\n", _SPACES.sub(" ", html.unescape(text)))


def _by_trafilatura(page: str) -> str:
    import trafilatura

    return trafilatura.extract(page, include_comments=False, include_tables=True, favor_recall=True) or ""


def _grams(line: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(line.lower())
    n = min(_GRAM, len(words))
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] if n else []


def _blocks(page: str, following: bytes, stream: IO[bytes]) -> Iterator[str]:
    for start in range(0, len(page), BLOCK):
        yield page[start : start + BLOCK]
    held = following
    while block := stream.read(BLOCK):
        text = held + block
        cut = max(text.rfind(b">"), text.rfind(b"\n"), text.rfind(b" ")) + 1 or len(text)
        held = text[cut:]
        yield text[:cut].decode("utf-8", "surrogateescape")
    if held:
        yield held.decode("utf-8", "surrogateescape")
