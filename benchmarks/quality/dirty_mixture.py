"""A folder of clean documents, the same folder with dirt as the web has it, and held-out documents, from public texts.

Clean are pages of books, encyclopaedia articles, abstracts of medical papers, and records of a library, which have one
form and its headings. Dirt by bytes of the dirty folder: pages in
other languages, pages of low quality, copies, and copies with changed words; and in the clean pages' own text boiler-plate
of three sites, characters that were decoded wrongly, and contact lines. Held-out are books of other authors, and other
articles and abstracts. Everything follows from one seed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from parakit.data.chunking import chunk
from parakit.data.cleaning.gutenberg import strip_gutenberg
from parakit.data.read_report import ReadReport

TRAINED = (
    "Anna-Karenina_1399",
    "Crime-and-Punishment_2554",
    "Emma_158",
    "Frankenstein_84",
    "Great-Expectations_1400",
    "Jane-Eyre_1260",
    "Moby-Dick--Or-The-Whale_2701",
    "The-Adventures-of-Tom-Sawyer_74",
    "The-Picture-of-Dorian-Gray_174",
    "Treasure-Island_120",
)
HELD_OUT = (
    "Alice-s-Adventures-in-Wonderland_11",
    "Dracula_345",
    "Middlemarch_145",
    "The-Adventures-of-Sherlock-Holmes_1661",
    "The-War-of-the-Worlds_36",
    "Vanity-Fair_599",
)
EXAMPLES = ("Les-Mis-rables_135", "Wuthering-Heights_768")  # the classifier's good ones
PAGE_CHARS = 2_500
PAGES, HELD_OUT_PAGES = 13, 5  # of a book
N_DOCUMENTS = {"articles": 110, "abstracts": 50, "records": 60}
N_HELD_OUT = {"articles": 18, "abstracts": 10, "records": 14}
N_EXAMPLES = 60  # of each kind
SHARES = {"other_languages": 0.12, "low_quality": 0.14, "copies": 0.08, "changed_copies": 0.1}
SITES = (0.2, 0.12, 0.03)  # shares of the documents with the boiler-plate of each
BROKEN = 0.3  # of the documents with characters beyond ASCII
CONTACTS = 0.06
CHANGED_WORDS = (0.03, 0.12)

_SITE_TEXTS = (
    (
        "Home | News | Library | Forum | About us | Contact\nSkip to main content\nSign in or create an account\n"
        "This site uses cookies to improve your experience. By continuing to browse you agree to our use of cookies.",
        "Share this page: Facebook Twitter Pinterest E-mail\nRelated articles you may like\n"
        "Copyright 2019 The Reading Room. All rights reserved. Terms of use. Privacy policy.\nPage {page} of 312",
    ),
    (
        "CORPORATE ARCHIVE - DOCUMENT {page}\nClassification: internal use only",
        "This message and its attachments are confidential and intended for the person to whom they are addressed only. If"
        " you have received this message in error, please notify the sender at once and delete it from your system. Any"
        " copying, distribution or other use of its contents without written permission of the sender is prohibited, and no"
        " liability is accepted for damage from viruses that it may contain.\nPlease consider the environment before"
        " printing this message.",
    ),
    (
        "You are reading a preview. Subscribe for full access from 4.99 a month.\n[Menu] [Search] [Basket (0)]",
        "0 comments\nLoading more results, please wait ...\nBack to top",
    ),
)


@dataclass
class Texts:
    """What is written: documents of the two folders, held-out ones, examples for a classifier, and what the dirt is."""

    clean: list[str]
    dirty: list[str]
    held_out: list[str]
    good: list[str]
    bad: list[str]
    shares: dict[str, float] = field(default_factory=dict)
    """Of the dirty folder's bytes."""


def make_texts(data: Path, seed: int = 0) -> Texts:
    """`data` has the folders gutenberg, foundry_eval, cranfield, multi30k and names."""
    random = Random(seed)
    clean = [page for name in TRAINED for page in _pages(data, name, PAGES)]
    held_out = [page for name in HELD_OUT for page in _pages(data, name, HELD_OUT_PAGES)]
    good = [page for name in EXAMPLES for page in _pages(data, name, N_EXAMPLES // 4)]
    others = {
        "articles": _passages(data, "boolq", "query"),
        "abstracts": _passages(data, "pubmed_qa_labeled", "context"),
        "records": _records(data),
    }
    for kind, texts in others.items():
        n = N_DOCUMENTS[kind]
        clean += texts[:n]
        good += texts[n : n + N_EXAMPLES // 6]
        held_out += texts[-N_HELD_OUT[kind] :]
    names = _lines(data / "names" / "names.txt.gz")
    captions = [_lines(data / "multi30k" / f"train.{code}.gz") for code in ("de", "fr")]
    dirt = Dirt(random, clean, names, captions)
    damaged, shares = _damaged(dirt, clean)
    total = sum(map(_size, clean)) / (1 - sum(SHARES.values()))
    dirty = list(damaged)
    makers = {
        "other_languages": dirt.other_language,
        "low_quality": dirt.low_quality,
        "copies": dirt.copies(damaged),
        "changed_copies": lambda: dirt.changed_copy(random.choice(damaged)),
    }
    for name, make in makers.items():
        counted = 0
        while counted < SHARES[name] * total:
            dirty.append(make())
            counted += _size(dirty[-1])
        shares[name] = counted
    bad = [dirt.other_language() for _ in range(N_EXAMPLES // 2)] + [
        dirt.low_quality() for _ in range(N_EXAMPLES // 2)
    ]
    for documents in (clean, dirty):
        random.shuffle(documents)
    size = sum(map(_size, dirty))
    return Texts(clean, dirty, held_out, good, bad, {name: n / size for name, n in shares.items()})


def write_texts(texts: Texts, folder: Path) -> None:
    """A file for each document of `clean` and `dirty`; the examples as JSON lines."""
    for name in ("clean", "dirty"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(getattr(texts, name)):
            (folder / name / f"{number:04}.txt").write_text(text, encoding="utf-8", newline="\n")
    for name in ("good", "bad"):
        rows = [json.dumps({"text": text}) for text in getattr(texts, name)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")


class Dirt:
    """Makes pages that nobody wants to train on."""

    def __init__(
        self, random: Random, clean: Sequence[str], names: Sequence[str], captions: Sequence[Sequence[str]]
    ) -> None:
        self.random, self._clean, self._names, self._captions = random, clean, names, captions
        self._words = " ".join(clean).split()

    def other_language(self) -> str:
        lines = self.random.choice(self._captions)
        return "\n".join(self.random.sample(lines, self.random.randint(15, 35)))

    def low_quality(self) -> str:
        kinds = (self._name_list, self._number_table, self._shuffled_words, self._keywords, self._misread)
        return self.random.choice(kinds)()

    def _name_list(self) -> str:
        return "\n".join(name.capitalize() for name in self.random.sample(self._names, 200))

    def _number_table(self) -> str:
        random = self.random
        head = "id\tdate\tquantity\tprice\ttotal\n"
        rows = (
            f"{random.randrange(10**6)}\t{random.randint(1, 28)}.{random.randint(1, 12)}.2019\t{random.randrange(500)}"
            f"\t{random.random() * 100:.2f}\t{random.random() * 9999:.2f}"
            for _ in range(50)
        )
        return head + "\n".join(rows)

    def _shuffled_words(self) -> str:
        return " ".join(self.random.choices(self._words, k=300))

    def _keywords(self) -> str:
        words = self.random.sample(self._words, 8)
        phrases = [" ".join(self.random.sample(words, 4)) for _ in range(6)]
        return ", ".join(f"{self.random.choice(('buy', 'best', 'cheap'))} {one}" for one in phrases * 9)

    def _misread(self) -> str:
        """A page as a poor scan is recognized."""
        page = self.random.choice(self._clean)
        wrong = "1l|!.,;:'^~*0OQc€§"
        return "".join(self.random.choice(wrong) if self.random.random() < 0.15 else c for c in page)

    def boilerplate(self, text: str, site: int) -> str:
        head, foot = (part.format(page=self.random.randint(1, 312)) for part in _SITE_TEXTS[site])
        return f"{head}\n\n{text}\n\n{foot}"

    def contact(self, text: str) -> str:
        first, last = (self.random.choice(self._names) for _ in range(2))
        digits = "".join(self.random.choices("0123456789", k=7))
        return (
            f"{text}\n\nWritten by {first.capitalize()} {last.capitalize()}, {first}.{last}@example.com,"
            f" phone +1 202 {digits[:3]}-{digits[3:]}"
        )

    def changed_copy(self, text: str) -> str:
        """With some of the words exchanged for others; white space stays."""
        share = self.random.uniform(*CHANGED_WORDS)
        lines = (line.split(" ") for line in text.split("\n"))
        return "\n".join(
            " ".join(
                self.random.choice(self._words) if word and self.random.random() < share else word
                for word in words
            )
            for words in lines
        )

    def copies(self, documents: Sequence[str]) -> Callable[[], str]:
        """Copies of a few documents, of some of them many."""
        chosen = self.random.sample(documents, 12)
        weights = [1 / (rank + 1) for rank in range(len(chosen))]
        return lambda: self.random.choices(chosen, weights)[0]


def _damaged(dirt: Dirt, clean: Sequence[str]) -> tuple[list[str], dict[str, float]]:
    """The clean documents with damage of their own, and its bytes by kind."""
    random, shares = dirt.random, dict.fromkeys(("boilerplate", "broken_documents", "contacts"), 0.0)
    documents = []
    for text in clean:
        draw = random.random()
        if random.random() < CONTACTS:
            longer = dirt.contact(text)
            shares["contacts"] += _size(longer) - _size(text)
            text = longer
        for site, share in enumerate(SITES):
            if 0 <= draw < share:
                longer = dirt.boilerplate(text, site)
                shares["boilerplate"] += _size(longer) - _size(text)
                text = longer
            draw -= share
        if not text.isascii() and random.random() < BROKEN:
            text = misdecoded(text)
            shares["broken_documents"] += _size(text)
        documents.append(text)
    return documents, shares


def misdecoded(text: str) -> str:
    """UTF-8 read as Windows-1252, bytes that it does not know as Latin-1."""
    return "".join(
        bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte)
        for byte in text.encode()
    )


def _pages(data: Path, name: str, n: int) -> list[str]:
    """`n` pages of a book, evenly spread."""
    text = gzip.decompress((data / "gutenberg" / f"{name}.txt.gz").read_bytes()).decode("utf-8-sig")
    lines = text.replace("\r\n", "\n").splitlines(keepends=True)
    pages = list(chunk(strip_gutenberg(lines, ReadReport()), PAGE_CHARS))
    return [pages[len(pages) * (2 * number + 1) // (2 * n)].strip() for number in range(n)]


def _passages(data: Path, suite: str, key: str) -> list[str]:
    """The different passages of a suite's questions, over 60 words, in its order."""
    rows = map(json.loads, _lines(data / "foundry_eval" / f"{suite}.jsonl.gz"))
    texts = (row[key].partition(": ")[2].partition("\nQuestion:")[0].strip() for row in rows)
    return [text for text in dict.fromkeys(texts) if len(text.split()) > 60]


def _records(data: Path) -> list[str]:
    """Reports on aerodynamics as a library catalogues them: one form, of which the contents differ."""
    xml = gzip.decompress((data / "cranfield" / "cran.all.1400.xml.gz").read_bytes()).decode()
    records = []
    for record in xml.split("<doc>")[1:]:
        title, author, source, text = (
            " ".join(record.partition(f"<{name}>")[2].partition(f"</{name}>")[0].split())
            for name in ("title", "author", "bib", "text")
        )
        if len(text.split()) > 60:
            records.append(
                f"Catalogue of technical reports\nTitle: {title}\nAuthors: {author}\nPublished in: {source}"
                f"\n\nSummary of contents\n{text.removeprefix(title).strip()}"
            )
    return records


def _lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def _size(text: str) -> int:
    return len(text.encode())
