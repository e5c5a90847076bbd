"""The kinds of documents: stories, fact paragraphs, dialogues, sheets of questions, two languages, numbers,
explanations.

Each kind is a function of `Draws` that gives one text. All exercises in them are drawn from the training
side of the hash.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.grading import plain_exchange
from parakit.primer.seeded_random import Draws
from parakit.primer.skills import (
    agreement,
    arithmetic,
    audience,
    facts,
    reference,
    safety,
    sentiment,
    small_talk,
    translation,
)
from parakit.primer.stories import story
from parakit.primer.world import ANIMALS, NAMES, PEOPLE, PERSON, PETS, TOWNS

SKILLS = {skill.NAME: skill for skill in (
    facts, arithmetic, translation, sentiment, reference, agreement, audience, safety,
)}  # fmt: skip
# How often each skill is practised, in documents and conversations alike: the knobs if a suite falls short.
SHARES = {
    "facts": 0.10,
    "arithmetic": 0.24,
    "translation": 0.19,
    "sentiment": 0.07,
    "reference": 0.19,
    "agreement": 0.07,
    "audience": 0.05,
    "safety": 0.09,
}

_HAILS = ("Hello", "Hi", "Good morning", "Good evening", "Hey")
_WELCOMES = ("Hello", "Hi", "Nice to see you", "Welcome", "There you are")
_REMARKS = ("I see that too.", "Yes, I know.", "Are you sure?", "How strange!", "That is true.")


def _edges(shares: dict[str, float]) -> tuple[float, ...]:
    total, edges = 0.0, []
    for share in shares.values():
        total += share
        edges.append(total)
    return tuple(edge / total for edge in edges)


_SKILL_NAMES, _SKILL_EDGES = tuple(SHARES), _edges(SHARES)


def any_exercise(draws: Draws) -> Exercise:
    """An exercise of the training side, of any skill."""
    return SKILLS[draws.weighted(_SKILL_NAMES, _SKILL_EDGES)].draw(draws)


def fact_paragraph(draws: Draws) -> str:
    """Three to seven sentences about a person, an animal or a town, and those around them."""
    kind = draws.below(8)
    if kind < 5:
        person = draws.pick(PEOPLE)
        about = [person.name]
        if person.name in PETS:
            about.append(PETS[person.name].name)
        if draws.maybe(0.4):
            about.append(person.town)
    elif kind < 7:
        animal = draws.pick(ANIMALS)
        about = [animal.name, animal.owner]
    else:
        town = draws.pick(TOWNS)
        about = [
            town.name,
            *draws.shuffled([person.name for person in PEOPLE if person.town == town.name])[:2],
        ]
    lines: list[str] = []
    for name in about:
        known = draws.shuffled(facts.FACTS_ABOUT[name])[: draws.between(2, 4)]
        for at, fact in enumerate(known):
            text = facts.state(draws, fact)
            if at and text.startswith(f"{name} ") and draws.maybe(0.4):
                person_or_none = PERSON.get(name)
                text = sentence((person_or_none.subject if person_or_none else "it") + text[len(name) :])
            lines.append(text)
    return " ".join(lines)


def dialogue(draws: Draws) -> str:
    """Two people greet each other, ask each other things, and part."""
    first, second = draws.two(NAMES)
    lines = []
    if draws.maybe(0.7):
        lines.append(f"{first}: {draws.pick(_HAILS)}, {second}!")
        lines.append(f"{second}: {draws.pick(_WELCOMES)}, {first}!")
    if draws.maybe(0.3):
        opinion = sentiment.opinion(draws)
        lines.append(f"{first}: {sentence(opinion[1])}")
        lines.append(f"{second}: So your feeling is {opinion[2]}.")
    if draws.maybe(0.3):
        lines.append(f"{first}: {sentence(agreement.told(draws))}")
        lines.append(f"{second}: {draws.pick(_REMARKS)}")
    for _ in range(draws.between(1, 3)):
        exercise = any_exercise(draws)
        while exercise.system:
            exercise = any_exercise(draws)
        lines.append(f"{first}: {exercise.question}")
        lines.append(f"{second}: {exercise.answer}")
        if draws.maybe(0.3):
            first, second = second, first
    if draws.maybe(0.5):
        lines.append(f"{first}: {draws.pick(small_talk.THANKS[0])}")
        lines.append(f"{second}: You're welcome!")
    return "\n".join(lines)


def sheet(draws: Draws) -> str:
    """Questions and answers, of one skill or of several."""
    skill = SKILLS[draws.weighted(_SKILL_NAMES, _SKILL_EDGES)] if draws.maybe(0.4) else None
    texts = []
    for _ in range(draws.between(3, 7)):
        exercise = skill.draw(draws) if skill else any_exercise(draws)
        texts.append(plain_exchange(exercise.system, exercise.question, exercise.answer))
    return "\n\n".join(texts)


def two_languages(draws: Draws) -> str:
    """The same words and sentences in English and French."""
    kind, lines = draws.below(3), []
    for _ in range(draws.between(4, 9)):
        _, english, french = translation.sentences(draws) if draws.maybe(0.75) else translation.words(draws)
        if kind == 0:
            lines.append(f"English: {sentence(english)}\nFrench: {sentence(french)}")
        elif kind == 1:
            lines.append(f"French: {sentence(french)}\nEnglish: {sentence(english)}")
        else:
            lines.append(
                f'"{english}" is "{french}" in French.'
                if draws.maybe(0.5)
                else f'"{french}" means "{english}".'
            )
    return "\n".join(lines)


def numbers(draws: Draws) -> str:
    """Sums to practise, or a story with numbers that is worked out as it goes."""
    if draws.maybe(0.4):
        lines = []
        for _ in range(draws.between(6, 14)):
            start, changes = arithmetic.steps(draws, 1)
            lines.append(arithmetic.work(start, changes))
        return " ".join(lines) if draws.maybe(0.5) else "\n".join(lines)
    texts = []
    for _ in range(draws.between(1, 3)):
        exercise = arithmetic.draw(draws)
        texts.append(f"{exercise.question} {exercise.answer}")
    return "\n".join(texts)


def explanation(draws: Draws) -> str:
    """Things of nature, told to several listeners."""
    lines = []
    for _ in range(draws.between(2, 4)):
        exercise = audience.draw(draws) if draws.maybe(0.6) else audience.draw_plain(draws)
        setting = f"{exercise.system} " if exercise.system else ""
        lines.append(f"{setting}{exercise.question} {exercise.answer}")
    return "\n".join(lines)


def reading(draws: Draws) -> str:
    """A story, and after it what its pronouns, opinions and verbs mean."""
    lines = [story(draws)]
    for _ in range(draws.between(1, 2)):
        exercise = draws.pick((reference, agreement, sentiment, facts)).draw(draws)
        lines.append(plain_exchange("", exercise.question, exercise.answer))
    return "\n\n".join(lines)


KINDS = {
    "story": (story, 0.26),
    "facts": (fact_paragraph, 0.12),
    "dialogue": (dialogue, 0.12),
    "sheet": (sheet, 0.32),
    "two_languages": (two_languages, 0.06),
    "numbers": (numbers, 0.07),
    "explanation": (explanation, 0.02),
    "reading": (reading, 0.03),
}
_KIND_NAMES = tuple(KINDS)
_KIND_EDGES = _edges({name: share for name, (_, share) in KINDS.items()})


def any_document(draws: Draws) -> tuple[str, str]:
    """(kind, text) of one document."""
    kind = draws.weighted(_KIND_NAMES, _KIND_EDGES)
    return kind, KINDS[kind][0](draws)
