"""Worse answers to an exercise, of the kinds that people mark down: a wrong fact, a wrong number, help with what is
harmful, a refusal of what is harmless, something made up, a manner that was not asked for.

Each skill's answers are wrong in its own way and look like right ones: as long, in the same words. What is asked
stays on its side of the keyed hash; answers never ask anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.seeded_random import Draws
from parakit.primer.skills import arithmetic, audience, facts, safety, sentiment, translation

_QUOTED_PAIR = re.compile(r"'(\w+)' or '(\w+)'")
_SIGNED = re.compile(r"[+-]?\d+")
_ARTICLES = {
    "le": "la",
    "la": "le",
    "un": "une",
    "une": "un",
    "mon": "ma",
    "ma": "mon",
    "the": "a",
    "a": "the",
}
_MADE_UP = (
    "Exactly {k}.",
    "It will be the number {k}.",
    "{n} will say it.",
    "It will be {n}, without a doubt.",
)
_UNHELPFUL = ("I don't know.", "Ask somebody else.", "That is a question.")


def worse_answer(draws: Draws, exercise: Exercise) -> str:
    """An answer to the exercise that is worse than its own, and differs from it."""
    worsen = _WORSE[exercise.combination[0]]
    while True:
        answer = worsen(draws, exercise)
        if answer != exercise.answer:
            return answer


def unhelpful_answer(draws: Draws) -> str:
    """An answer to anything that says nothing: better than a wrong one, worse than a right one."""
    return draws.pick(_UNHELPFUL)


def _fact(draws: Draws, exercise: Exercise) -> str:
    """The same sentence with another value."""
    _, relation, about, _ = exercise.combination
    return facts.fill(facts.ANSWERS[relation], facts.Fact(relation, about, draws.pick(exercise.reject)))


def _number(draws: Draws, exercise: Exercise) -> str:
    """The work with one slip that is carried on, or right work and another result."""
    start, *changes = (int(number) for number in _SIGNED.findall(exercise.combination[3]))
    off = draws.pick((-2, -1, 1, 2))
    if draws.maybe(0.3):
        return f"{arithmetic.work(start, changes)} The answer is {start + sum(changes) + off}."
    slip, total, lines = draws.below(len(changes)), start, []
    for at, change in enumerate(changes):
        result = total + change + (off if at == slip else 0)
        lines.append(f"{total} {'+' if change > 0 else '-'} {abs(change)} = {result}.")
        total = result
    return f"{' '.join(lines)} The answer is {total}."


def _translation(draws: Draws, exercise: Exercise) -> str:
    """A wrong article, or the translation of something else."""
    words = exercise.answer.split()
    places = [at for at, word in enumerate(words) if word.lower() in _ARTICLES]
    if places and draws.maybe(0.4):
        at = draws.pick(places)
        words[at] = _ARTICLES[words[at].lower()]
        return sentence(" ".join(words))
    _, english, french = translation.sentences(draws)
    return sentence(french if exercise.label == "to French" else english)


def _opinion(draws: Draws, exercise: Exercise) -> str:
    right = exercise.label
    wrong = sentiment.LABELS[1 - sentiment.LABELS.index(exercise.label)]
    return exercise.answer.replace(f": {right}.", f": {wrong}.")


def _noun(draws: Draws, exercise: Exercise) -> str:
    meant, other = exercise.accept[0], exercise.reject[0]
    return exercise.answer.replace(meant, other)


def _verb(draws: Draws, exercise: Exercise) -> str:
    """The other of the two verbs that the question offers."""
    offered = _QUOTED_PAIR.search(exercise.question)
    assert offered is not None, exercise.question
    return next(
        f"{verb.capitalize()}." for verb in offered.groups() if f"{verb.capitalize()}." != exercise.answer
    )


def _manner(draws: Draws, exercise: Exercise) -> str:
    """The same topic for another listener, or another topic in the right manner."""
    topic = next(topic for topic in audience.TOPICS if topic.name == exercise.combination[1])
    right = next(one for one in audience.AUDIENCES if one.name == exercise.label)
    if draws.maybe(0.3):
        return audience.answer(draws, draws.pick([one for one in audience.TOPICS if one is not topic]), right)
    return audience.answer(draws, topic, draws.pick([one for one in audience.AUDIENCES if one is not right]))


def _safety(draws: Draws, exercise: Exercise) -> str:
    if exercise.label == "harmful":
        how = draws.pick(safety.LOOK_ALIKES)[2]
        act = f"{exercise.combination[1]} {exercise.combination[2]}"
        return f"To {act.replace('my ', 'your ')}, {how}."
    if exercise.label == "harmless":
        return draws.pick(safety.REFUSALS).format(safety.HARMFUL[draws.pick(tuple(safety.HARMFUL))][1])
    return draws.pick(_MADE_UP).format(k=draws.between(2, 90), n=draws.pick(safety.NAMES))


_WORSE: dict[str, Callable[[Draws, Exercise], str]] = {
    "facts": _fact,
    "arithmetic": _number,
    "translation": _translation,
    "sentiment": _opinion,
    "reference": _noun,
    "agreement": _verb,
    "audience": _manner,
    "safety": _safety,
}
