"""Arithmetic word problems, answered step by step.

A person has some objects; one to three events add or take some. Held out are pairs of (person, object), whatever the
numbers, and chains of two or more numbers. Every sentence names the person and the object, so no sentence of a held-out
question occurs in training. All numbers are between 0 and 20.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.world import PEOPLE, Person

NAME = "arithmetic"
LABELS = ("1", "2", "3")
HELD_OUT_PERCENT = 20
CHAIN_HELD_OUT_PERCENT = 20
MAX_NUMBER = 20

OBJECTS = (
    "apples", "books", "boats", "bells", "coins", "cups", "eggs", "flowers", "hats", "keys", "lamps",
    "letters", "nuts", "pears", "pens", "plates", "ribbons", "shells", "spoons", "stones", "tickets",
    "toys", "balls", "boxes",
)  # fmt: skip

# {n} the person, {o} the objects, {k} how many, {q} somebody else, {s} she or he, {p} her or his.
OPENINGS = (
    "{n} has {k} {o}.",
    "{n} starts with {k} {o}.",
    "There are {k} {o} in the bag of {n}.",
    "{n} owns {k} {o}.",
    "In the morning {n} has {k} {o}.",
    "{n} counts {p} {o} and there are {k}.",
)
GAINS = (
    "{n} finds {k} more {o}.",
    "Then {n} buys {k} more {o}.",
    "{n} gets {k} more {o} from {q}.",
    "After that, {n} is given {k} more {o}.",
    "{q} brings {n} {k} more {o}.",
    "Later {n} wins {k} more {o}.",
    "{n} goes out and comes home with {k} more {o}.",
)
LOSSES = (
    "{n} loses {k} of the {o}.",
    "Then {n} gives {k} of the {o} to {q}.",
    "{n} sells {k} of the {o}.",
    "After that, {q} takes {k} of the {o} from {n}.",
    "Later {n} drops {k} of the {o} into the river.",
    "{n} leaves {k} of the {o} at the market.",
    "{n} is kind and hands {k} of the {o} to {q}.",
)
QUESTIONS = (
    "How many {o} does {n} have now?",
    "How many {o} are left for {n}?",
    "How many {o} does {n} have in the end?",
    "Say how many {o} {n} has.",
)
PAIR_STORIES = ("{n} has {k} {o} and {q} has {m} {o}.", "{n} has {k} {o}, while {q} has {m} {o}.")
PAIR_QUESTIONS = ("How many {o} do {n} and {q} have together?", "How many {o} do {n} and {q} have in all?")


def steps(random: Random, n_steps: int) -> tuple[int, list[int]]:
    """A start and `n_steps` signed changes, with totals between 0 and `MAX_NUMBER`; a gain is at least 2, so
    "1 more apples" never occurs.
    """
    total = start = random.between(2, 12)
    changes = []
    for _ in range(n_steps):
        gain = total < 2 or (total < MAX_NUMBER - 1 and random.maybe(0.5))
        change = random.between(2, min(9, MAX_NUMBER - total)) if gain else -random.between(1, min(9, total))
        total += change
        changes.append(change)
    return start, changes


def work(start: int, changes: list[int]) -> str:
    """ "7 + 5 = 12. 12 - 3 = 9." """
    lines, total = [], start
    for change in changes:
        lines.append(f"{total} {'+' if change > 0 else '-'} {abs(change)} = {total + change}.")
        total += change
    return " ".join(lines)


def solution(start: int, changes: list[int]) -> str:
    return f"{work(start, changes)} The answer is {start + sum(changes)}."


def event_story(random: Random, person: Person, objects: str, start: int, changes: list[int]) -> str:
    """The events as sentences, without the question."""
    fields = {"n": person.name, "o": objects, "p": person.possessive}
    lines = [random.pick(OPENINGS).format(k=start, **fields)]
    for change in changes:
        other = random.pick(PEOPLE)
        while other is person:
            other = random.pick(PEOPLE)
        lines.append(
            random.pick(GAINS if change > 0 else LOSSES).format(k=abs(change), q=other.name, **fields)
        )
    return " ".join(lines)


def is_pair_held_out(name: str, objects: str) -> bool:
    return is_held_out(HELD_OUT_PERCENT, NAME, name, objects)


def _together(random: Random, person: Person, objects: str, held_out: bool) -> Exercise:
    other = random.pick(PEOPLE)
    while other is person or (not held_out and is_pair_held_out(other.name, objects)):
        other = random.pick(PEOPLE)
    first, second = random.between(2, 10), random.between(2, 9)
    fields = {"n": person.name, "o": objects, "q": other.name}
    text = (
        random.pick(PAIR_STORIES).format(k=first, m=second, **fields)
        + " "
        + random.pick(PAIR_QUESTIONS).format(**fields)
    )
    combination = (NAME, person.name, objects, f"{first}+{second}")
    return Exercise(text, solution(first, [second]), combination, check="final_answer", label="1")


def _chain(random: Random, held_out: bool, n_steps: tuple[int, int]) -> tuple[int, list[int]]:
    while True:
        start, changes = steps(random, random.between(*n_steps))
        chain = [str(start), *map(str, changes)]
        if len(changes) == 1 or is_held_out(CHAIN_HELD_OUT_PERCENT, NAME, "chain", *chain) == held_out:
            return start, changes


def _pair(random: Random, held_out: bool) -> tuple[Person, str]:
    while True:
        person, objects = random.pick(PEOPLE), random.pick(OBJECTS)
        if is_pair_held_out(person.name, objects) == held_out:
            return person, objects


def _irrelevant_sentence(random: Random, person: Person, objects: str, held_out: bool) -> str:
    """A sentence about another person and other objects."""
    other, others = _pair(random, held_out)
    while other is person or others == objects:
        other, others = _pair(random, held_out)
    fields = {"n": other.name, "o": others, "p": other.possessive, "k": random.between(2, 12)}
    return random.pick(OPENINGS).format(**fields)


def draw_with_distractor(
    random: Random, held_out: bool = False, n_steps: tuple[int, int] = (1, 3)
) -> Exercise:
    """A story with an irrelevant sentence, which no document, conversation or suite has: harder than the training
    data, with answers in the same form.
    """
    person, objects = _pair(random, held_out)
    start, changes = _chain(random, held_out, n_steps)
    sentences = event_story(random, person, objects, start, changes).split(". ")
    place = random.between(0, len(sentences))
    sentences = [sentence.rstrip(".") for sentence in sentences]
    sentences.insert(place, _irrelevant_sentence(random, person, objects, held_out).rstrip("."))
    return _exercise(random, person, objects, start, changes, ". ".join(sentences) + ".")


def _exercise(
    random: Random, person: Person, objects: str, start: int, changes: list[int], text: str
) -> Exercise:
    text += " " + random.pick(QUESTIONS).format(n=person.name, o=objects)
    chain = "".join([str(start), *(f"{change:+d}" for change in changes)])
    return Exercise(
        text,
        solution(start, changes),
        (NAME, person.name, objects, chain),
        check="final_answer",
        label=str(len(changes)),
    )


def draw(random: Random, held_out: bool = False, n_steps: tuple[int, int] = (1, 3)) -> Exercise:
    """A story and its question. `n_steps`: the fewest and the most events; documents and suites have up to three."""
    person, objects = _pair(random, held_out)
    start, changes = _chain(random, held_out, n_steps)
    if len(changes) == 1 and random.maybe(0.25):
        return _together(random, person, objects, held_out)
    return _exercise(
        random, person, objects, start, changes, event_story(random, person, objects, start, changes)
    )
