"""The words and sentences of a text, as the quality rules count them.

Words are split as spaCy's tokenizer for English splits them, on which the published thresholds were set (datatrove uses it):
punctuation marks at the ends of a word are words of their own, so are the parts of a hyphenated word and the "n't" of
"don't"; signs inside a word stay in it. Most exceptions are left out.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ABBREVIATIONS = r"(?:Mr|Mrs|Ms|Dr|St|Prof|Jr|Sr|vs|Inc|Ltd|Co|Gen|Sen|Rep|Rev|Gov|e\.g|i\.e)"
_LETTER = r"[^\W\d_]"
_SPLITS = (  # where a word ends although a letter or digit follows the signs
    rf"(?<=[^\W_])[-–—~](?={_LETTER})|(?<={_LETTER})(?:,|-{{2,3}})(?={_LETTER})|[:<>=/](?={_LETTER})"
    r"|(?<=[a-z])\.(?=[A-Z])|(?<=\d)[+*^-](?=\d)|['’](?:s|re|ve|ll|d|m)\b|[^\w\s]*(?:\.\.|…)"
)
_NEGATED = (
    r"(?:[Aa](?:i|re)|[Cc](?:a|ould)|[Dd](?:id|oes|o)|[Hh](?:ad|as|ave)|[Ii]s|[Mm](?:ight|ust)|[Nn]eed|[Ss](?:ha|hould)"
    r"|[Ww](?:as|ere|o|ould))(?=n['’]t\b)"
)
_WORD = re.compile(
    rf"(?:https?|ftp)://[^\s\"<>]*[\w/]|{_ABBREVIATIONS}\.|(?:[A-Z]\.)+(?![^\W_])|\b{_NEGATED}|n['’]t\b|\b[Cc]an(?=not\b)"
    r"|['’](?:s|re|ve|ll|d|m|em|bout)\b"
    rf"|(?:[^\W_]|[\x80-\x9f])(?:[^\W_]|[\x80-\x9f]|(?!{_SPLITS})(?:[^\w\s]|_)+(?=[^\W_]))*"
    r"(?:[:.,;!?]*--(?=[\"”’')]*(?:\s|\Z)))?|\):|\.{2,}|-{2,}|[^\s]"
)
_SENTENCE_END = re.compile(r"(?:(?<![\s.A-Z])|(?<=[A-Z][A-Z]))\.(?!\w)|[!?。！？](?!\w)")
_ABBREVIATION = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Jr|Sr|vs|etc|e\.g|i\.e|Inc|Ltd|Co|No|Gen|Sen|Rep|Rev|Gov|Col)\.$"
)
_REST = re.compile(r"[\W_]*\Z")


def split_words(text: str) -> list[str]:
    """The words and punctuation marks of `text`."""
    return _WORD.findall(text)


@lru_cache(maxsize=65_536)
def is_symbol(word: str) -> bool:
    """Whether a word is punctuation only, or an ASCII symbol."""
    return all(c in "$+<=>^`|~" or unicodedata.category(c)[0] in "PZC" for c in word)


def count_sentences(line: str) -> int:
    """The sentences of a line: at least 1."""
    n = 1
    for match in _SENTENCE_END.finditer(line):
        end = match.end()
        if _REST.match(line, end):
            break
        if match[0] == "." and _ABBREVIATION.search(line, max(0, end - 8), end):
            continue
        n += 1
    return n
