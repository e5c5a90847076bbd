"""Translation of words and short sentences between English and French, both ways.

A sentence is built once, from the lexicon, in both languages. Held out are the words that meet in it (and,
for a single word, the word with one phrasing): every word is known from other sentences. Gender agreement
and the place of the adjective must be got right; English is the same sentence word by word.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.lexicon import (
    ADJECTIVES,
    ANIMATE,
    DETERMINERS,
    GREETINGS,
    I_VERBS,
    INTRANSITIVE,
    NOUNS,
    PLACES,
    THINGS,
    TRANSITIVE,
    Adjective,
    Noun,
    noun_phrase,
)
from parakit.primer.seeded_random import Random, is_held_out

NAME = "translation"
LABELS = ("to French", "to English")
HELD_OUT_PERCENT = 20
_HUMANS = ("boy", "girl", "doctor", "queen", "king")
_HUMAN = tuple(
    adjective for adjective in ADJECTIVES if adjective.english in ("small", "big", "pretty", "strong")
)
_LIVING = tuple(adjective for adjective in ADJECTIVES if adjective.english not in ("heavy", "clean", "green"))
_LIFELESS = tuple(adjective for adjective in ADJECTIVES if adjective.english != "strong")
_CARRIED = tuple(
    noun for noun in THINGS if noun.english in ("book", "apple", "cake", "flower", "hat", "key", "ball")
)

# A translated pair: (its combination, English, French); both in lower case, without a full stop.
SentencePair = tuple[tuple[str, ...], str, str]

TO_FRENCH = (
    "Translate into French: {}",
    'How do you say "{}" in French?',
    'What is "{}" in French?',
    "Put this into French: {}",
    'Say "{}" in French.',
    'Please give me the French for "{}".',
)
TO_ENGLISH = (
    "Translate into English: {}",
    'What does "{}" mean in English?',
    'What is "{}" in English?',
    "Put this into English: {}",
    'Say "{}" in English.',
    'Please give me the English for "{}".',
)


def _fitting(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that suit a noun: no green king, no strong key."""
    if noun.english in _HUMANS:
        return _HUMAN
    return _LIVING if noun in ANIMATE else _LIFELESS


def _phrase(random: Random) -> SentencePair:
    noun, determiner = random.pick(NOUNS), random.pick(DETERMINERS)
    adjective = random.pick(_fitting(noun))
    english, french = noun_phrase(determiner, noun, adjective)
    return (determiner, adjective.english, noun.english), english, french


def _is(random: Random) -> SentencePair:
    determiner = random.pick(("the", "my"))
    noun = random.pick(NOUNS)
    adjective = random.pick(_fitting(noun))
    english, french = noun_phrase(determiner, noun, None)
    form = adjective.feminine if noun.feminine else adjective.masculine
    return (
        (determiner, noun.english, "is", adjective.english),
        f"{english} is {adjective.english}",
        f"{french} est {form}",
    )


def _acts(random: Random) -> SentencePair:
    determiner, noun = random.pick(DETERMINERS), random.pick(ANIMATE)
    adjective = random.pick(_fitting(noun)) if random.maybe(0.4) else None
    english_verb, french_verb = random.pick(INTRANSITIVE)
    english, french = noun_phrase(determiner, noun, adjective)
    key = (determiner, *((adjective.english,) if adjective else ()), noun.english, english_verb)
    if adjective is None or random.maybe(0.3):
        english_in, french_in, place = random.pick(PLACES)
        english_place, french_place = noun_phrase("the", place, None)
        key = (*key, english_in, place.english)
        return (
            key,
            f"{english} {english_verb} {english_in} {english_place}",
            f"{french} {french_verb} {french_in} {french_place}",
        )
    return key, f"{english} {english_verb}", f"{french} {french_verb}"


def _does(random: Random) -> SentencePair:
    english_verb, french_verb = random.pick(TRANSITIVE)
    nouns = _CARRIED if english_verb == "carries" else NOUNS
    subject, thing = random.pick(ANIMATE), random.pick(nouns)
    while thing is subject:
        thing = random.pick(nouns)
    first, second = random.pick(DETERMINERS), random.pick(DETERMINERS)
    english, french = noun_phrase(first, subject, None)
    english_thing, french_thing = noun_phrase(second, thing, None)
    key = (first, subject.english, english_verb, second, thing.english)
    return key, f"{english} {english_verb} {english_thing}", f"{french} {french_verb} {french_thing}"


def _i_do(random: Random) -> SentencePair:
    english_verb, french_verb = random.pick(I_VERBS)
    _, english, french = phrase = _phrase(random)
    return (english_verb, *phrase[0]), f"{english_verb} {english}", f"{french_verb} {french}"


_SHAPES = (_phrase, _is, _acts, _does, _i_do)


def words(random: Random) -> SentencePair:
    """A single word or greeting, a noun with its article more often than bare."""
    kind = random.below(8)
    if kind == 0:
        english, french = random.pick(GREETINGS)
    elif kind == 1:
        adjective = random.pick(ADJECTIVES)
        english, french = adjective.english, adjective.masculine
    elif kind == 2:
        english, french = random.pick(INTRANSITIVE)
        english, french = f"he {english}", f"il {french}"
    else:
        noun = random.pick(NOUNS)
        english, french = noun_phrase("the", noun, None)
    return (english,), english, french


def is_sentence_held_out(pair: SentencePair) -> bool:
    return is_held_out(HELD_OUT_PERCENT, NAME, *pair[0])


def sentences(random: Random, held_out: bool = False) -> SentencePair:
    """A phrase or sentence in both languages, from the requested side of the hash."""
    while True:
        pair = random.pick(_SHAPES)(random)
        if is_sentence_held_out(pair) == held_out:
            return pair


def _exercise(random: Random, pair: SentencePair, phrasing: int, to_french: bool) -> Exercise:
    _, english, french = pair
    source, target = (english, french) if to_french else (french, english)
    pattern = (TO_FRENCH if to_french else TO_ENGLISH)[phrasing]
    question = pattern.format(source if '"' in pattern else sentence(source))
    key = (NAME, "to French" if to_french else "to English", *pair[0])
    return Exercise(question, sentence(target), key, label=key[1])


def draw(random: Random, held_out: bool = False) -> Exercise:
    to_french = random.maybe(0.5)
    if random.maybe(0.8):
        return _exercise(random, sentences(random, held_out), random.below(len(TO_FRENCH)), to_french)
    while True:
        pair, phrasing = words(random), random.below(len(TO_FRENCH))
        direction = "to French" if to_french else "to English"
        if is_held_out(HELD_OUT_PERCENT, NAME, direction, pair[0][0], str(phrasing)) == held_out:
            exercise = _exercise(random, pair, phrasing, to_french)
            return Exercise(
                exercise.question,
                exercise.answer,
                (NAME, direction, pair[0][0], f"phrasing {phrasing}"),
                label=direction,
            )
