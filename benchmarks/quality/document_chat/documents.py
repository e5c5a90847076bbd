"""The folder of documents: the leads of Wikipedia articles as Markdown, and the handbook of a company that does not exist.

WikiText-2's validation and test text is made plain again (its spaces around punctuation, its marked hyphens), and sentences
with a word that WikiText left out are dropped. The handbook's facts are drawn by a seed, so no model can know them; its
questions are worded here and nowhere in Parakit.
"""

from __future__ import annotations

import gzip
import random
import re
from dataclasses import dataclass
from pathlib import Path

FILES = ("valid.txt.gz", "test.txt.gz")
MIN_CHARS, MAX_CHARS = 350, 1_000  # of a lead, in whole sentences
_TITLE = re.compile(r" = ([^=].*?) = ")
_SPACED = (
    (r" @([-,.])@ ", r"\1"),
    (r" ([,.;:!?%)\]])", r"\1"),
    (r"([(\[]) ", r"\1"),
    (r" ('s|s'|n't|'t|')\b", r"\1"),
)
_DEPARTMENTS = [
    "Logistics",
    "Payroll",
    "Glazing",
    "Dispatch",
    "Metering",
    "Archives",
    "Joinery",
    "Calibration",
    "Canteen",
    "Tooling",
]
_FIRST = [
    "Odalys",
    "Brannoc",
    "Ismene",
    "Teodor",
    "Wilhelmina",
    "Casimir",
    "Philippa",
    "Lazarus",
    "Ottoline",
    "Mirembe",
]
_LAST = [
    "Harcourt",
    "Vennberg",
    "Okonjo",
    "Castellane",
    "Drummond",
    "Ashdown",
    "Pereira",
    "Lindqvist",
    "Marchetti",
    "Thorne",
]
_CODES = [
    "Heron",
    "Walnut",
    "Cobalt",
    "Juniper",
    "Saffron",
    "Granite",
    "Marlin",
    "Poppy",
    "Tundra",
    "Bramble",
]
_TOWNS = [
    "Aldermoor",
    "Brinkvale",
    "Corrigan",
    "Dunmere",
    "Eastwick",
    "Farrowby",
    "Glenholt",
    "Harwell",
    "Inverloch",
    "Jarrowfield",
]


@dataclass(frozen=True)
class Question:
    """`document`: the name of the file that has the answer."""

    question: str
    answer: str
    document: str


def write_articles(data: Path, folder: Path, n: int) -> int:
    """The leads of the first `n` articles that are long enough, a file each; returns how many there are."""
    written = 0
    for name in FILES:
        text = gzip.decompress((data / "wikitext-2" / name).read_bytes()).decode("utf-8")
        for title, lead in _leads(text):
            if written < n:
                file = re.sub(r"\W+", "_", title).strip("_")
                (folder / f"{file}.md").write_text(f"# {title}\n\n{lead}\n", encoding="utf-8")
                written += 1
    return written


def _leads(text: str) -> list[tuple[str, str]]:
    """(title, plain text before the first section) of the articles without a missing word in the title."""
    found = []
    lines = text.split("\n")
    for i, line in enumerate(lines):
        title = _TITLE.fullmatch(line)
        if title and "<unk>" not in line:
            end = next((j for j in range(i + 1, len(lines)) if lines[j].startswith(" = ")), len(lines))
            lead = _shortened(" ".join(lines[i + 1 : end]))
            if len(lead) >= MIN_CHARS:
                found.append((_plain(title[1]), lead))
    return found


def _shortened(text: str) -> str:
    """Whole sentences without a missing word, up to `MAX_CHARS`."""
    kept: list[str] = []
    for sentence in re.split(r"(?<= \.) ", text):
        plain = _plain(sentence)
        if "<unk>" not in sentence and sum(map(len, kept)) + len(plain) <= MAX_CHARS:
            kept.append(plain)
    return " ".join(filter(None, kept))


def _plain(text: str) -> str:
    text = re.sub(r'" ([^"]*?) "', r'"\1"', " ".join(text.split()))
    for pattern, plain in _SPACED:
        text = re.sub(pattern, plain, text)
    return text.strip()


def write_handbook(folder: Path, n: int, seed: int = 0) -> list[Question]:
    """A page a department, with lines "key: value", a table and prose; returns questions about it in wordings of their own."""
    draw = random.Random(seed)
    firsts, lasts, codes, towns = (draw.sample(names, n) for names in (_FIRST, _LAST, _CODES, _TOWNS))
    questions: list[Question] = []
    for i, name in enumerate(draw.sample(_DEPARTMENTS, n)):
        head, room, phone = f"{firsts[i]} {lasts[i]}", draw.randrange(100, 900), draw.randrange(2000, 9000)
        year, staff, budget = draw.randrange(1951, 2019), draw.randrange(13, 90), draw.randrange(210, 990)
        day = draw.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"))
        file = f"handbook_{name.lower()}.md"
        (folder / file).write_text(
            f"# {name} department of Quillfeather Works\n\n"
            f"Head: {head}\nRoom: {room}\nExtension: {phone}\nPassword hint: {codes[i]}\n\n"
            f"The {name} department was founded in {year} and has its depot in {towns[i]}. "
            f"It employs {staff} people and meets every {day} morning in the large hall.\n\n"
            f"| Budget line | Amount | Approved by |\n| --- | --- | --- |\n"
            f"| {name} equipment | {budget} crowns | {lasts[(i + 1) % n]} |\n",
            encoding="utf-8",
        )
        questions += [
            Question(question, answer, file)
            for question, answer in (
                (f"Who runs the {name} department at Quillfeather Works?", head),
                (f"Where in the building do I find {name}? Give me the room number.", str(room)),
                (f"Which number do I dial to call {name}?", str(phone)),
                (f"Since what year has Quillfeather Works had a {name} department?", str(year)),
                (f"The depot of {name} is in what town?", towns[i]),
                (f"What is the size of the staff in {name}?", str(staff)),
                (f"How large is the budget for equipment of the {name} department, in crowns?", str(budget)),
            )
        ]  # fmt: skip
    return questions
