"""Names of people, by a heuristic: a first name that is known with the capitalized words after it, the words after a title,
and a name after a greeting or "my name is". Once a person's name is found, its surname is found alone, too.

The 31,600 first names of the United States (ssa.gov, public domain) come from the list `names` of makemore
(https://github.com/karpathy/makemore, MIT). First names that are words or places too need a title or a greeting. A model of
named entities finds more; presidio's needs spaCy and hundreds of megabytes (docs/decisions).
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from parakit.data.personal.patterns import Found

_CAP = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶŁĻŃŅŇŐŒŘŚŞŠŢŤŪŮŰŲŹŻŽ][\w'’]+(?:-[A-ZÀ-ÖØ-Þ][\w'’]+)*"
_PARTICLE = r"(?:van|von|der|den|de|del|della|di|da|dos|la|le|bin|ibn|al|ten|ter|zu)"
_FOLLOWING = rf"(?:[ \t]+(?:[A-Z]\.[ \t]*)?(?:{_PARTICLE}[ \t]+){{0,2}}{_CAP})"
_RUN = re.compile(rf"{_CAP}{_FOLLOWING}{{0,3}}(?![\w@\]])")
_TITLED = re.compile(
    rf"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Herrn|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?|Dott|Sig|Sir|Lady)\b\.?[ \t]+"
    rf"((?:[A-Z]\.[ \t]*)?{_CAP}{_FOLLOWING}{{0,2}})"
)
_GREETED = re.compile(
    rf"(?:(?:[Dd]ear|Hi|Hello|Hallo|Liebe[r]?|Bonjour|Hola|Cher|Chère|Estimad[oa]|[Mm]y name is|[Nn]amed|[Nn]ame:"
    rf"|[Ii]ch heiße|[Jj]e m'appelle|[Mm]e llamo|I am called|[Ss]igned(?: by)?)[ \t:]+"
    rf"|(?:[Rr]egards|[Ss]incerely|[Cc]heers|[Bb]est wishes|Grüßen|[Cc]ordialement|Saludos|Yours|Thanks),?[ \t]*\n+[ \t]*)"
    rf"({_CAP}{_FOLLOWING}{{0,2}})"
)
_WORD = re.compile(_CAP)


@cache
def _not_alone() -> frozenset[str]:
    """First names that are words, months or places, too."""
    return frozenset(
        files("parakit.data.personal").joinpath("names_that_are_words.txt").read_text("utf-8").split()
    )


@cache
def first_names() -> frozenset[str]:
    """Lower-case first names."""
    packed = files("parakit.data.personal").joinpath("first_names.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())


def find_names(text: str) -> Iterator[Found]:
    """Each name, in no particular order; some overlap."""
    surnames: set[str] = set()
    for begin, end in _whole_names(text):
        words = _WORD.findall(text, begin, end)
        surnames.update(word for word in words[1:] or words if len(word) >= 3)
        yield "name", begin, end
    if surnames:
        for match in _WORD.finditer(text):
            if match[0].removesuffix("'s").removesuffix("’s") in surnames:
                yield (
                    "name",
                    match.start(),
                    match.start() + len(match[0].removesuffix("'s").removesuffix("’s")),
                )


def _whole_names(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_TITLED, _GREETED):
        for match in pattern.finditer(text):
            if text[match.start() - 1 : match.start()].isalnum():
                continue
            words = _WORD.findall(match[1])
            if pattern is _TITLED or _plain(words[0]) in first_names() or len(words) >= 2:
                yield match.span(1)
    known, ambiguous = first_names(), _not_alone()
    for match in _RUN.finditer(text):
        if match.start() and (text[match.start() - 1] in "@/.[_" or text[match.start() - 1].isalnum()):
            continue
        words = list(_WORD.finditer(text, *match.span()))
        for place, word in enumerate(words[:-1]):
            low = _plain(word[0]).partition("-")[0]
            if low in known and low not in ambiguous and words[place + 1][0].lower() not in ambiguous:
                yield word.start(), words[min(place + 3, len(words) - 1)].end()
                break


def _plain(word: str) -> str:
    """In lower case and without accents, as the list has it."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))
