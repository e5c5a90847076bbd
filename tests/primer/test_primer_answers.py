"""Sums and translations are checked by other means than those that wrote them."""

from __future__ import annotations

import re

from parakit.primer import PrimerConfig, generate_suites
from parakit.primer.lexicon import (
    ADJECTIVES,
    GREETINGS,
    I_VERBS,
    INTRANSITIVE,
    NOUNS,
    PLACES,
    TRANSITIVE,
    noun_phrase,
)
from parakit.primer.seeded_random import Random
from parakit.primer.skills import arithmetic, reference, translation
from parakit.primer.world import PERSON


def told_total(question: str) -> int:
    """Follows the events of a story: what is "more" is added, what is taken "of the" things is taken off."""
    if "together" in question or "in all" in question:
        return sum(map(int, re.findall(r"\d+", question)))
    first, *events = re.findall(r"[^.?]*\d+[^.?]*[.?]", question)
    total = int(re.search(r"\d+", first).group())
    for event in events:
        number = int(re.search(r"\d+", event).group())
        gained = re.search(r"\d+ more ", event)
        lost = re.search(r"\d+ of the ", event)
        assert bool(gained) != bool(lost), event
        total += number if gained else -number
    return total


def test_every_story_comes_out_at_its_answer_and_every_step_is_true():
    random = Random(0, "test")
    for held_out in (False, True):
        for _ in range(3000):
            exercise = arithmetic.draw(random, held_out)
            *steps, last = exercise.answer.split(". ")
            for step in steps:
                left, sign, right, _, result = step.split()
                assert int(result) == (int(left) + int(right) if sign == "+" else int(left) - int(right))
                assert 0 <= int(result) <= arithmetic.MAX_NUMBER
            assert last == f"The answer is {told_total(exercise.question)}."
            assert result == last.split()[-1].rstrip(".")
            assert "1 more" not in re.sub(r"1\d more", "", exercise.question)


FORMS = {noun.french: (noun.english, noun.feminine) for noun in NOUNS}
FORMS |= {place.french: (place.english, place.feminine) for _, _, place in PLACES}
ADJECTIVE_FORMS = {a.masculine: a.english for a in ADJECTIVES} | {a.feminine: a.english for a in ADJECTIVES}
FEMININE = {a.feminine for a in ADJECTIVES} - {a.masculine for a in ADJECTIVES}
MASCULINE = {a.masculine for a in ADJECTIVES} - {a.feminine for a in ADJECTIVES}
ARTICLES = {"le": "the", "la": "the", "l'": "the", "un": "a", "une": "a", "mon": "my", "ma": "my"}
OTHERS = {french: english for english, french in (*INTRANSITIVE, *TRANSITIVE, *I_VERBS)}
OTHERS |= {"est": "is", "dans": "in", "sous": "under", "derrière": "behind", "il": "he", "je": "I", "j'": "I"}
OTHERS |= {"vois": "see", "aime": "like", "trouve": "find", "veux": "want"}


def back(french: str) -> list[str]:
    """French read word by word, an adjective put before its noun, gender checked on the way."""
    words = re.findall(r"[ljLJ]'|[^\s']+", french.rstrip(".").lower())
    english: list[str] = []
    gender: bool | None = None
    waiting: list[str] = []
    started = False
    for word in words:
        if word in ARTICLES:
            english.append(ARTICLES[word])
            gender, started, waiting = None, True, [word]
        elif word in FORMS:
            noun, feminine = FORMS[word]
            gender = feminine
            for form in waiting:
                assert form not in ("la", "une", "ma") or feminine, french
                assert form not in ("le", "un") or not feminine, french
                assert form not in FEMININE or feminine, french
                assert form not in MASCULINE or not feminine, french
            if not waiting or waiting[0] == "l'":
                assert words[words.index(word) - 1] != "l'" or word[0] in "aeiouéè", french
            english.append(noun)
            waiting = []
        elif word in ADJECTIVE_FORMS:
            if gender is None and started:
                waiting.append(word)
                english.append(ADJECTIVE_FORMS[word])
            else:
                assert word not in (MASCULINE if gender else FEMININE), french
                english.insert(
                    len(english) if english[-1] == "is" else len(english) - 1, ADJECTIVE_FORMS[word]
                )
        else:
            english.extend(OTHERS[word].split())
    return english


def plain(english: str) -> list[str]:
    words = re.sub(r"\ban\b", "a", english.rstrip(".")).replace("I ", "i ").lower().split()
    i_form = {"see": "see", "like": "like", "find": "find", "want": "want"}
    return [i_form.get(word, word) for word in words]


def same(english: str, french: str) -> bool:
    got = [word.lower() for word in back(french)]
    if got[0] == "i":  # "je trouve" and "il trouve" are spelt alike
        got[1] = {"finds": "find", "likes": "like"}.get(got[1], got[1])
    else:
        got = [
            {"find": "finds", "like": "likes", "see": "sees", "want": "wants"}.get(word, word) for word in got
        ]
    return got == plain(english)


def test_translations_read_back_word_by_word_and_agree_in_gender():
    random = Random(0, "test")
    for held_out in (False, True):
        for _ in range(3000):
            _, english, french = translation.sentences(random, held_out)
            assert same(english, french), (english, french, back(french))


def test_held_out_translations_go_both_ways_and_match_the_lexicon():
    directions = set()
    single = dict(GREETINGS) | {a.english: a.masculine for a in ADJECTIVES}
    for item in generate_suites(PrimerConfig())["translation"]:
        question = item.messages[-1].content
        given = (
            (re.search(r'"(.+)"', question) or re.search(r": (.+)$", question)).group(1).rstrip(".").lower()
        )
        wanted = item.answer.rstrip(".").lower()
        english, french = (given, wanted) if item.combination[1] == "to French" else (wanted, given)
        directions.add(item.combination[1])
        assert single.get(english) == french or same(english, french), (english, french)
    assert directions == {"to French", "to English"}


def test_articles_elide_and_adjectives_find_their_place():
    nouns = {noun.english: noun for noun in NOUNS}
    adjectives = {adjective.english: adjective for adjective in ADJECTIVES}
    assert noun_phrase("the", nouns["bird"], None) == ("the bird", "l'oiseau")
    assert noun_phrase("the", nouns["bird"], adjectives["small"]) == ("the small bird", "le petit oiseau")
    assert noun_phrase("the", nouns["tree"], adjectives["green"]) == ("the green tree", "l'arbre vert")
    assert noun_phrase("a", nouns["apple"], adjectives["white"]) == ("a white apple", "une pomme blanche")
    assert noun_phrase("a", nouns["apple"], None) == ("an apple", "une pomme")
    assert noun_phrase("my", nouns["house"], adjectives["pretty"]) == ("my pretty house", "ma jolie maison")


def test_a_word_has_one_translation_both_ways():
    for table in (
        [(noun.english, noun.french) for noun in NOUNS],
        [(a.english, a.masculine) for a in ADJECTIVES],
        INTRANSITIVE,
        TRANSITIVE,
        GREETINGS,
    ):
        assert len({english for english, _ in table}) == len({french for _, french in table}) == len(table)


def test_references_point_at_a_noun_of_the_sentence_that_fits_the_pronoun():
    random = Random(0, "test")
    for held_out in (False, True):
        for _ in range(2000):
            text, pronoun, first, second, label = reference.scene(random, held_out)
            meant = (first if label == "first" else second).removeprefix("the ")
            assert text.index(first) < text.index(second)
            if pronoun in ("she", "he"):
                assert PERSON[meant].subject == pronoun
            else:
                assert (pronoun == "them") == (meant in reference.PLURALS)
