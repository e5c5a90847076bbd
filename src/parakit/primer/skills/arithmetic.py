"""Arithmetic told as a story and answered step by step.

Somebody has some things; one to three events add to them or take from them. Held out are pairs of (person,
object), in all their numbers, and besides that chains of two or more numbers. Every sentence names the
person and the object, so no sentence of a held-out question is ever read in training. All numbers lie
between 0 and 20.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise
from parakit.primer.seeded_random import Draws, is_held_out
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


def steps(draws: Draws, n_steps: int) -> tuple[int, list[int]]:
    """A start and `n_steps` signed changes that stay between 0 and `MAX_NUMBER`; "1 more apples" is never
    said.
    """
    total = start = draws.between(2, 12)
    changes = []
    for _ in range(n_steps):
        gain = total < 2 or (total < MAX_NUMBER - 1 and draws.maybe(0.5))
        change = draws.between(2, min(9, MAX_NUMBER - total)) if gain else -draws.between(1, min(9, total))
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


def story(draws: Draws, person: Person, objects: str, start: int, changes: list[int]) -> str:
    """The events as sentences, without the question."""
    told = {"n": person.name, "o": objects, "p": person.possessive}
    lines = [draws.pick(OPENINGS).format(k=start, **told)]
    for change in changes:
        other = draws.pick(PEOPLE)
        while other is person:
            other = draws.pick(PEOPLE)
        lines.append(draws.pick(GAINS if change > 0 else LOSSES).format(k=abs(change), q=other.name, **told))
    return " ".join(lines)


def is_pair_held_out(name: str, objects: str) -> bool:
    return is_held_out(HELD_OUT_PERCENT, NAME, name, objects)


def _together(draws: Draws, person: Person, objects: str, held_out: bool) -> Exercise:
    other = draws.pick(PEOPLE)
    while other is person or (not held_out and is_pair_held_out(other.name, objects)):
        other = draws.pick(PEOPLE)
    first, second = draws.between(2, 10), draws.between(2, 9)
    told = {"n": person.name, "o": objects, "q": other.name}
    text = (
        draws.pick(PAIR_STORIES).format(k=first, m=second, **told)
        + " "
        + draws.pick(PAIR_QUESTIONS).format(**told)
    )
    combination = (NAME, person.name, objects, f"{first}+{second}")
    return Exercise(text, solution(first, [second]), combination, check="final_answer", label="1")


def _chain(draws: Draws, held_out: bool, n_steps: tuple[int, int]) -> tuple[int, list[int]]:
    while True:
        start, changes = steps(draws, draws.between(*n_steps))
        chain = [str(start), *map(str, changes)]
        if len(changes) == 1 or is_held_out(CHAIN_HELD_OUT_PERCENT, NAME, "chain", *chain) == held_out:
            return start, changes


def _pair(draws: Draws, held_out: bool) -> tuple[Person, str]:
    while True:
        person, objects = draws.pick(PEOPLE), draws.pick(OBJECTS)
        if is_pair_held_out(person.name, objects) == held_out:
            return person, objects


def _beside_the_point(draws: Draws, person: Person, objects: str, held_out: bool) -> str:
    """What somebody else has of something else."""
    other, others = _pair(draws, held_out)
    while other is person or others == objects:
        other, others = _pair(draws, held_out)
    told = {"n": other.name, "o": others, "p": other.possessive, "k": draws.between(2, 12)}
    return draws.pick(OPENINGS).format(**told)


def draw_distracted(draws: Draws, held_out: bool = False, n_steps: tuple[int, int] = (1, 3)) -> Exercise:
    """A story with a sentence in it that is beside the point, which no document, conversation or suite has: harder
    than what is taught, and answered in the same words.
    """
    person, objects = _pair(draws, held_out)
    start, changes = _chain(draws, held_out, n_steps)
    sentences = story(draws, person, objects, start, changes).split(". ")
    place = draws.between(0, len(sentences))
    sentences = [sentence.rstrip(".") for sentence in sentences]
    sentences.insert(place, _beside_the_point(draws, person, objects, held_out).rstrip("."))
    return _exercise(draws, person, objects, start, changes, ". ".join(sentences) + ".")


def _exercise(
    draws: Draws, person: Person, objects: str, start: int, changes: list[int], text: str
) -> Exercise:
    text += " " + draws.pick(QUESTIONS).format(n=person.name, o=objects)
    chain = "".join([str(start), *(f"{change:+d}" for change in changes)])
    return Exercise(
        text,
        solution(start, changes),
        (NAME, person.name, objects, chain),
        check="final_answer",
        label=str(len(changes)),
    )


def draw(draws: Draws, held_out: bool = False, n_steps: tuple[int, int] = (1, 3)) -> Exercise:
    """A story and its question. `n_steps`: the fewest and the most events; documents and suites have up to three,
    longer ones are for who wants to ask more.
    """
    person, objects = _pair(draws, held_out)
    start, changes = _chain(draws, held_out, n_steps)
    if len(changes) == 1 and draws.maybe(0.25):
        return _together(draws, person, objects, held_out)
    return _exercise(draws, person, objects, start, changes, story(draws, person, objects, start, changes))
