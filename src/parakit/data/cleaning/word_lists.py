"""Documents with words of a list of the user's: toxic, adult, or of whatever kind is not wanted.

No list is built in. Published ones, such as that of C4 (Raffel et al. 2020), take away texts of medicine and of minorities
together with what they are meant for (Dodge et al. 2021, arXiv:2104.08758); which words are not wanted is a choice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed, TextStep

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]"
)  # Thai, Lao, Burmese, Japanese, Chinese


class WordListsConfig(StepConfig):
    """Files of words, and how many of them a document may have."""

    step: Literal["word_lists"] = "word_lists"
    files: tuple[str, ...] = Field(
        default=(), description="UTF-8 files with a word or phrase on each line; '#' begins a comment."
    )
    max_found: int = Field(
        default=0, ge=0, description="A document stays that has at most so many of the words,"
    )
    max_share: float = Field(
        default=0.0, ge=0, le=1, description="or of whose words at most this share are of the lists."
    )

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if not self.files:
            raise UserError("word_lists names no files", "give some, for example word_lists:files=words.txt")
        return self

    def build(self, folder: Path) -> TextStep:
        words, phrases = _read(self.files)
        pattern = re.compile("|".join(sorted(phrases, key=lambda one: (-len(one), one)))) if phrases else None

        def judge(text: str) -> str | Removed:
            low = text.casefold()
            found = _WORD.findall(low)
            n = sum(word in words for word in found)
            n += sum(1 for _ in pattern.finditer(low)) if pattern else 0
            if n <= self.max_found or n <= self.max_share * len(found):
                return text
            return Removed("words of a list")

        return judge


def _read(files: tuple[str, ...]) -> tuple[frozenset[str], set[str]]:
    """Single words, and patterns of all else."""
    words, phrases = set[str](), set[str]()
    for name in files:
        try:
            lines = Path(name).read_text(encoding="utf-8").casefold().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"word_lists: {name} cannot be read: {error}", "name a UTF-8 text file") from None
        for line in lines:
            entry = line.partition("#")[0].strip()
            if _WORD.fullmatch(entry) and not _UNSPACED.search(entry):
                words.add(entry)
            elif entry:
                inner = r"\s+".join(map(re.escape, entry.split()))
                phrases.add(inner if _UNSPACED.search(entry) else rf"(?<!\w){inner}(?!\w)")
    if not words and not phrases:
        raise UserError(f"word_lists: no words in {', '.join(files)}", "write one on each line")
    return frozenset(words), phrases
