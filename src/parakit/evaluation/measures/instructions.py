"""The 25 kinds of instruction of IFEval, each checked by a rule (Zhou et al. 2023, "Instruction-Following Evaluation for
Large Language Models", table 1 and appendix).

Strictly, the answer as it is must follow an instruction. Loosely, one of eight variants of it must: without its first or
last line, or both, and without asterisks, so that an introduction or a mark of emphasis costs nothing. An empty answer
follows nothing. Languages are recognized by py3langid, sentences are counted by their ends.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.data.cleaning.language import UNSURE, detect_language
from parakit.data.cleaning.text_units import count_sentences

Settings = Mapping[str, Any]
InstructionCheck = Callable[[str, Settings], bool]

_BULLET = re.compile(r"^\s*(?:\*[^*]|-).*$", re.MULTILINE)
_EMPHASIS = (re.compile(r"\*([^*\n]*)\*"), re.compile(r"\*\*([^*\n]*)\*\*"))
_PLACEHOLDER = re.compile(r"\[.*?\]")
_TITLE = re.compile(r"<<[^\n]+>>")
_WORD = re.compile(r"\w+")
_HYPHENATED_WORD = re.compile(r"\w+(?:-\w+)*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_FENCE = re.compile(r"\A```(?:json)?|```\Z", re.IGNORECASE)
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
_WORD_ENDS = ".,?!'\""


def follows(kind: str, settings: Settings, answer: str, *, loosely: bool = False) -> bool:
    """Whether an answer follows an instruction of this kind with these settings."""
    check = find_check(kind)
    variants = loose_variants(answer) if loosely else [answer]
    return any(variant.strip() and check(variant, settings) for variant in variants)


def find_check(kind: str) -> InstructionCheck:
    """The rule of a kind; `UserError` for an unknown one."""
    if kind not in CHECKS:
        raise UserError(f"unknown kind of instruction: {kind}", f"known are {', '.join(sorted(CHECKS))}")
    return CHECKS[kind]


def loose_variants(answer: str) -> list[str]:
    """The eight texts of which one has to follow an instruction loosely."""
    lines = answer.split("\n")
    cut = ["\n".join(lines[a : len(lines) - b]).strip() for a, b in ((1, 0), (0, 1), (1, 1))]
    texts = [answer, *cut]
    return texts + [text.replace("*", "") for text in texts]


def _compare(n: int, relation: object, limit: int) -> bool:
    if relation not in ("less than", "at least"):
        raise UserError(
            f"unknown relation in an instruction: {relation!r}", "write 'less than' or 'at least'"
        )
    return n < limit if relation == "less than" else n >= limit


def _has_all_keywords(answer: str, settings: Settings) -> bool:
    return all(re.search(re.escape(word), answer, re.IGNORECASE) for word in settings["keywords"])


def _has_keyword_often(answer: str, settings: Settings) -> bool:
    found = re.findall(re.escape(settings["keyword"].strip()), answer, re.IGNORECASE)
    return _compare(len(found), settings["relation"], settings["frequency"])


def _has_no_forbidden_word(answer: str, settings: Settings) -> bool:
    words = "|".join(map(re.escape, settings["forbidden_words"]))
    return re.search(rf"\b(?:{words})\b", answer, re.IGNORECASE) is None


def _has_letter_often(answer: str, settings: Settings) -> bool:
    n = answer.lower().count(settings["letter"].strip().lower())
    return _compare(n, settings["let_relation"], settings["let_frequency"])


def _is_in_language(answer: str, settings: Settings) -> bool:
    return detect_language(answer) in (settings["language"], UNSURE)


def _has_so_many_sentences(answer: str, settings: Settings) -> bool:
    return _compare(count_sentences(answer.strip()), settings["relation"], settings["num_sentences"])


def _has_so_many_words(answer: str, settings: Settings) -> bool:
    return _compare(len(_WORD.findall(answer)), settings["relation"], settings["num_words"])


def _has_so_many_paragraphs(answer: str, settings: Settings) -> bool:
    """Parts between dividers; only before the first divider and after the last one may be nothing."""
    parts = [bool(part.strip()) for part in _DIVIDER.split(answer)]
    inner = list(itertools.islice(parts, 1, len(parts) - 1))
    return all(inner) and sum(parts) == settings["num_paragraphs"]


def _begins_paragraph_with(answer: str, settings: Settings) -> bool:
    """So many paragraphs between empty lines, and the first word of one of them."""
    parts = [part.strip() for part in answer.split("\n\n")]
    n, nth = sum(map(bool, parts)), settings["nth_paragraph"]
    if nth > n or not parts[nth - 1]:
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"').lower()
    first = "".join(itertools.takewhile(lambda sign: sign not in _WORD_ENDS, word))
    return n == settings["num_paragraphs"] and first == settings["first_word"].lower()


def _has_placeholders(answer: str, settings: Settings) -> bool:
    return len(_PLACEHOLDER.findall(answer)) >= settings["num_placeholders"]


def _has_postscript(answer: str, settings: Settings) -> bool:
    marker = settings["postscript_marker"].strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker)), answer, re.IGNORECASE) is not None


def _has_so_many_bullets(answer: str, settings: Settings) -> bool:
    return len(_BULLET.findall(answer)) == settings["num_bullets"]


def _is_one_of_the_options(answer: str, settings: Settings) -> bool:
    return any(option in answer for option in _OPTIONS)


def _has_highlights(answer: str, settings: Settings) -> bool:
    n = sum(bool(text.strip()) for pattern in _EMPHASIS for text in pattern.findall(answer))
    return n >= settings["num_highlights"]


def _has_sections(answer: str, settings: Settings) -> bool:
    found = re.findall(re.escape(settings["section_spliter"].strip()) + r"\s?\d+", answer)
    return len(found) >= settings["num_sections"]


def _is_json(answer: str, settings: Settings) -> bool:
    try:
        json.loads(_FENCE.sub("", answer.strip()).strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(answer: str, settings: Settings) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in _TITLE.findall(answer))


def _is_two_answers(answer: str, settings: Settings) -> bool:
    parts = [part.strip() for part in answer.split("******")]
    texts = [part for part in parts if part]
    return all(parts[1:-1]) and len(texts) == 2 and texts[0] != texts[1]


def _repeats_prompt(answer: str, settings: Settings) -> bool:
    return answer.strip().lower().startswith(settings["prompt_to_repeat"].strip().lower())


def _ends_with(answer: str, settings: Settings) -> bool:
    return answer.strip().strip('"').lower().endswith(settings["end_phrase"].strip().lower())


def _is_quoted(answer: str, settings: Settings) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _has_capital_words(answer: str, settings: Settings) -> bool:
    n = sum(map(str.isupper, _HYPHENATED_WORD.findall(answer)))
    return _compare(n, settings["capital_relation"], settings["capital_frequency"])


def _is_english(answer: str) -> bool:
    return detect_language(answer.lower()) in ("en", UNSURE)


CHECKS: Mapping[str, InstructionCheck] = {
    "keywords:existence": _has_all_keywords,
    "keywords:frequency": _has_keyword_often,
    "keywords:forbidden_words": _has_no_forbidden_word,
    "keywords:letter_frequency": _has_letter_often,
    "language:response_language": _is_in_language,
    "length_constraints:number_sentences": _has_so_many_sentences,
    "length_constraints:number_paragraphs": _has_so_many_paragraphs,
    "length_constraints:number_words": _has_so_many_words,
    "length_constraints:nth_paragraph_first_word": _begins_paragraph_with,
    "detectable_content:number_placeholders": _has_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:number_bullet_lists": _has_so_many_bullets,
    "detectable_format:constrained_response": _is_one_of_the_options,
    "detectable_format:number_highlighted_sections": _has_highlights,
    "detectable_format:multiple_sections": _has_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _is_two_answers,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends_with,
    "startend:quotation": _is_quoted,
    "change_case:capital_word_frequency": _has_capital_words,
    "change_case:english_capital": lambda answer, _: answer.isupper() and _is_english(answer),
    "change_case:english_lowercase": lambda answer, _: answer.islower() and _is_english(answer),
    "punctuation:no_comma": lambda answer, _: "," not in answer,
}
LANGUAGE_KINDS = {
    "language:response_language",
    "change_case:english_capital",
    "change_case:english_lowercase",
}
