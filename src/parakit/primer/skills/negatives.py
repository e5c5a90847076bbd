"""Worse answers to an exercise: a wrong fact or number, help with a harmful request, a refusal of a harmless one, an
invented answer, the wrong manner.

They resemble right answers in length and words. Questions stay on their side of the keyed hash; answers contain none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.seeded_random import Random
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


def negative_answer(random: Random, exercise: Exercise) -> str:
    """A worse answer to the exercise, different from its own."""
    make_negative = _NEGATIVES[exercise.combination[0]]
    while True:
        answer = make_negative(random, exercise)
        if answer != exercise.answer:
            return answer


def unhelpful_answer(random: Random) -> str:
    """An answer without content: better than a wrong one, worse than a right one."""
    return random.pick(_UNHELPFUL)


def _fact(random: Random, exercise: Exercise) -> str:
    """The same sentence with another value."""
    _, relation, about, _ = exercise.combination
    return facts.fill(facts.ANSWERS[relation], facts.Fact(relation, about, random.pick(exercise.reject)))


def _number(random: Random, exercise: Exercise) -> str:
    """The working with one error carried on, or correct working and another result."""
    start, *changes = (int(number) for number in _SIGNED.findall(exercise.combination[3]))
    off = random.pick((-2, -1, 1, 2))
    if random.maybe(0.3):
        return f"{arithmetic.work(start, changes)} The answer is {start + sum(changes) + off}."
    slip, total, lines = random.below(len(changes)), start, []
    for at, change in enumerate(changes):
        result = total + change + (off if at == slip else 0)
        lines.append(f"{total} {'+' if change > 0 else '-'} {abs(change)} = {result}.")
        total = result
    return f"{' '.join(lines)} The answer is {total}."


def _translation(random: Random, exercise: Exercise) -> str:
    """A wrong article, or the translation of something else."""
    words = exercise.answer.split()
    places = [at for at, word in enumerate(words) if word.lower() in _ARTICLES]
    if places and random.maybe(0.4):
        at = random.pick(places)
        words[at] = _ARTICLES[words[at].lower()]
        return sentence(" ".join(words))
    _, english, french = translation.sentences(random)
    return sentence(french if exercise.label == "to French" else english)


def _opinion(random: Random, exercise: Exercise) -> str:
    right = exercise.label
    wrong = sentiment.LABELS[1 - sentiment.LABELS.index(exercise.label)]
    return exercise.answer.replace(f": {right}.", f": {wrong}.")


def _noun(random: Random, exercise: Exercise) -> str:
    meant, other = exercise.accept[0], exercise.reject[0]
    return exercise.answer.replace(meant, other)


def _verb(random: Random, exercise: Exercise) -> str:
    """The other of the two verbs that the question offers."""
    offered = _QUOTED_PAIR.search(exercise.question)
    assert offered is not None, exercise.question
    return next(
        f"{verb.capitalize()}." for verb in offered.groups() if f"{verb.capitalize()}." != exercise.answer
    )


def _manner(random: Random, exercise: Exercise) -> str:
    """The same topic for another audience, or another topic in the right manner."""
    topic = next(topic for topic in audience.TOPICS if topic.name == exercise.combination[1])
    right = next(one for one in audience.AUDIENCES if one.name == exercise.label)
    if random.maybe(0.3):
        return audience.answer(
            random, random.pick([one for one in audience.TOPICS if one is not topic]), right
        )
    return audience.answer(
        random, topic, random.pick([one for one in audience.AUDIENCES if one is not right])
    )


def _safety(random: Random, exercise: Exercise) -> str:
    if exercise.label == "harmful":
        how = random.pick(safety.LOOK_ALIKES)[2]
        act = f"{exercise.combination[1]} {exercise.combination[2]}"
        return f"To {act.replace('my ', 'your ')}, {how}."
    if exercise.label == "harmless":
        return random.pick(safety.REFUSALS).format(safety.HARMFUL[random.pick(tuple(safety.HARMFUL))][1])
    return random.pick(_MADE_UP).format(k=random.between(2, 90), n=random.pick(safety.NAMES))


_NEGATIVES: dict[str, Callable[[Random, Exercise], str]] = {
    "facts": _fact,
    "arithmetic": _number,
    "translation": _translation,
    "sentiment": _opinion,
    "reference": _noun,
    "agreement": _verb,
    "audience": _manner,
    "safety": _safety,
}
