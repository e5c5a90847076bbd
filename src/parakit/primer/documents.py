"""The kinds of documents: stories, fact paragraphs, dialogues, sheets of questions, two languages, numbers,
explanations.

Each kind is a function of a `Random` that returns one text. All exercises in them come from the training side
of the hash.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.grading import plain_exchange
from parakit.primer.seeded_random import Random
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
# How often each skill occurs, in documents and conversations alike.
SKILL_WEIGHTS = {
    "facts": 0.10,
    "arithmetic": 0.24,
    "translation": 0.19,
    "sentiment": 0.07,
    "reference": 0.19,
    "agreement": 0.07,
    "audience": 0.05,
    "safety": 0.09,
}

_GREETINGS = ("Hello", "Hi", "Good morning", "Good evening", "Hey")
_REPLIES = ("Hello", "Hi", "Nice to see you", "Welcome", "There you are")
_REMARKS = ("I see that too.", "Yes, I know.", "Are you sure?", "How strange!", "That is true.")


def _edges(shares: dict[str, float]) -> tuple[float, ...]:
    total, edges = 0.0, []
    for share in shares.values():
        total += share
        edges.append(total)
    return tuple(edge / total for edge in edges)


_SKILL_NAMES, _SKILL_EDGES = tuple(SKILL_WEIGHTS), _edges(SKILL_WEIGHTS)


def draw_exercise(random: Random) -> Exercise:
    """An exercise of the training side, of any skill."""
    return SKILLS[random.pick_weighted(_SKILL_NAMES, _SKILL_EDGES)].draw(random)


def fact_paragraph(random: Random) -> str:
    """Three to seven sentences about a person, an animal or a town, and their neighbours in the world."""
    kind = random.below(8)
    if kind < 5:
        person = random.pick(PEOPLE)
        about = [person.name]
        if person.name in PETS:
            about.append(PETS[person.name].name)
        if random.maybe(0.4):
            about.append(person.town)
    elif kind < 7:
        animal = random.pick(ANIMALS)
        about = [animal.name, animal.owner]
    else:
        town = random.pick(TOWNS)
        about = [
            town.name,
            *random.shuffled([person.name for person in PEOPLE if person.town == town.name])[:2],
        ]
    lines: list[str] = []
    for name in about:
        known = random.shuffled(facts.FACTS_ABOUT[name])[: random.between(2, 4)]
        for at, fact in enumerate(known):
            text = facts.state(random, fact)
            if at and text.startswith(f"{name} ") and random.maybe(0.4):
                person_or_none = PERSON.get(name)
                text = sentence((person_or_none.subject if person_or_none else "it") + text[len(name) :])
            lines.append(text)
    return " ".join(lines)


def dialogue(random: Random) -> str:
    """Two people greet each other, ask each other things, and part."""
    first, second = random.pick_two(NAMES)
    lines = []
    if random.maybe(0.7):
        lines.append(f"{first}: {random.pick(_GREETINGS)}, {second}!")
        lines.append(f"{second}: {random.pick(_REPLIES)}, {first}!")
    if random.maybe(0.3):
        opinion = sentiment.opinion(random)
        lines.append(f"{first}: {sentence(opinion[1])}")
        lines.append(f"{second}: So your feeling is {opinion[2]}.")
    if random.maybe(0.3):
        lines.append(f"{first}: {sentence(agreement.statement(random))}")
        lines.append(f"{second}: {random.pick(_REMARKS)}")
    for _ in range(random.between(1, 3)):
        exercise = draw_exercise(random)
        while exercise.system:
            exercise = draw_exercise(random)
        lines.append(f"{first}: {exercise.question}")
        lines.append(f"{second}: {exercise.answer}")
        if random.maybe(0.3):
            first, second = second, first
    if random.maybe(0.5):
        lines.append(f"{first}: {random.pick(small_talk.THANKS[0])}")
        lines.append(f"{second}: You're welcome!")
    return "\n".join(lines)


def sheet(random: Random) -> str:
    """Questions and answers, of one skill or of several."""
    skill = SKILLS[random.pick_weighted(_SKILL_NAMES, _SKILL_EDGES)] if random.maybe(0.4) else None
    texts = []
    for _ in range(random.between(3, 7)):
        exercise = skill.draw(random) if skill else draw_exercise(random)
        texts.append(plain_exchange(exercise.system, exercise.question, exercise.answer))
    return "\n\n".join(texts)


def two_languages(random: Random) -> str:
    """The same words and sentences in English and French."""
    kind, lines = random.below(3), []
    for _ in range(random.between(4, 9)):
        _, english, french = (
            translation.sentences(random) if random.maybe(0.75) else translation.words(random)
        )
        if kind == 0:
            lines.append(f"English: {sentence(english)}\nFrench: {sentence(french)}")
        elif kind == 1:
            lines.append(f"French: {sentence(french)}\nEnglish: {sentence(english)}")
        else:
            lines.append(
                f'"{english}" is "{french}" in French.'
                if random.maybe(0.5)
                else f'"{french}" means "{english}".'
            )
    return "\n".join(lines)


def numbers(random: Random) -> str:
    """Sums, or word problems with their solutions."""
    if random.maybe(0.4):
        lines = []
        for _ in range(random.between(6, 14)):
            start, changes = arithmetic.steps(random, 1)
            lines.append(arithmetic.work(start, changes))
        return " ".join(lines) if random.maybe(0.5) else "\n".join(lines)
    texts = []
    for _ in range(random.between(1, 3)):
        exercise = arithmetic.draw(random)
        texts.append(f"{exercise.question} {exercise.answer}")
    return "\n".join(texts)


def explanation(random: Random) -> str:
    """Things of nature, explained to several audiences."""
    lines = []
    for _ in range(random.between(2, 4)):
        exercise = audience.draw(random) if random.maybe(0.6) else audience.draw_plain(random)
        prefix = f"{exercise.system} " if exercise.system else ""
        lines.append(f"{prefix}{exercise.question} {exercise.answer}")
    return "\n".join(lines)


def reading(random: Random) -> str:
    """A story, followed by one or two exercises on pronouns, verbs, opinions or facts."""
    lines = [story(random)]
    for _ in range(random.between(1, 2)):
        exercise = random.pick((reference, agreement, sentiment, facts)).draw(random)
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


def draw_document(random: Random) -> tuple[str, str]:
    """(kind, text) of one document."""
    kind = random.pick_weighted(_KIND_NAMES, _KIND_EDGES)
    return kind, KINDS[kind][0](random)
