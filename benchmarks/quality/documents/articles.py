"""A folder of encyclopaedia articles as Markdown, with their sections: WikiText-2's validation and test text made plain
again, without the sentences in which WikiText left a word out.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.document_chat.documents import _TITLE, FILES, _plain

MAX_CHARS = 3_000  # of an article, in whole paragraphs; the last one may be longer
MIN_CHARS = 600
MIN_PARAGRAPH = 80
_SECTION = re.compile(r" = = ([^=].*?) = = ")


def write_long_articles(data: Path, folder: Path) -> int:
    """A file for each article that is long enough; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for name in FILES:
        text = gzip.decompress((data / "wikitext-2" / name).read_bytes()).decode("utf-8")
        for title, parts in _articles(text.split("\n")):
            if sum(len(part) for part in parts if not part.startswith("#")) > MIN_CHARS:
                file = re.sub(r"\W+", "_", title).strip("_")
                (folder / f"{file}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
                written += 1
    return written


def _articles(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(title, headings and paragraphs) of the articles without a missing word in the title."""
    title, parts, size = "", [""], 0
    for line in [*lines, " = End = "]:
        if heading := _TITLE.fullmatch(line):
            if title:
                yield title, parts
            title = "" if "<unk>" in line else _plain(heading[1])
            parts, size = [f"# {title}"], 0
        elif size >= MAX_CHARS or "<unk>" in line.partition(" = = ")[2]:
            continue
        elif section := _SECTION.fullmatch(line):
            parts.append(f"## {_plain(section[1])}")
        elif line.strip() and not line.startswith(" = "):
            sentences = (_plain(one) for one in re.split(r"(?<= \.) ", line) if "<unk>" not in one)
            if len(paragraph := " ".join(filter(None, sentences))) > MIN_PARAGRAPH:
                parts.append(paragraph)
                size += len(paragraph)
