"""Passages of documents: stretches between paragraphs, chosen by digest, so that none depends on other documents."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest

from parakit.data.chunking import chunk
from parakit.data.conversations.from_documents.config import DocumentQuestionsConfig
from parakit.data.documents import Document

_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*")
MAX_TITLE_CHARS = 100
MIN_CHARS = 80  # a shorter passage has little to be questioned about


@dataclass(frozen=True)
class Passage:
    """A stretch of a document. `document_id`: as `parakit show --document` takes it. `title`: the heading that the
    document begins with, if any.
    """

    text: str
    source: str
    file: str
    document_id: str
    title: str = ""

    @property
    def id(self) -> str:
        """Of its text and its document."""
        return hashlib.sha256(f"{self.document_id}\n{self.text}".encode()).hexdigest()[:16]


def passages_of(documents: Iterable[Document], config: DocumentQuestionsConfig) -> list[Passage]:
    """The passages of a split's documents: `passages_per_document` of each at most, and `max_passages` in all, those of
    the smallest ids, in the order of the ids. Memory: as many.
    """
    found = (passage for document in documents for passage in _of_document(document, config))
    return nsmallest(config.max_passages, found, key=lambda passage: passage.id)


def _of_document(document: Document, config: DocumentQuestionsConfig) -> Iterator[Passage]:
    texts = [text.strip() for text in chunk([document.text], config.passage_chars)]
    document_id = document.digest[:16]
    title = title_of(document)
    passages = [
        Passage(text, document.source, document.file, document_id, title)
        for text in texts
        if len(text) >= MIN_CHARS
    ]
    yield from nsmallest(config.passages_per_document, passages, key=lambda passage: passage.id)


def title_of(document: Document) -> str:
    """The heading that the document begins with; empty where it begins with none."""
    first = document.text.lstrip().partition("\n")[0].strip()
    if (heading := _HEADING.fullmatch(first)) and len(heading[1]) <= MAX_TITLE_CHARS:
        return heading[1]
    return ""


def file_title(name: str) -> str:
    """The name of a file in words, without its folder and its ending."""
    last = name.rpartition("/")[2]
    return (last.rpartition(".")[0] or last).replace("_", " ").replace("-", " ")
