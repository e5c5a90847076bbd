"""Minimal pairs: two texts that differ in what decides, of which one is right; a model should find it likelier.

Five behaviours, each from a skill's held-out combinations: the verb agrees with its subject across one noun, or across
two (a dependency of a longer range), a pronoun refers to the noun that the sentence's end points at, a negation turns an
opinion round, and a verb such as "blow up" is harmless or not by its object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.primer.exercise import sentence
from parakit.primer.grading import plain_exchange
from parakit.primer.seeded_random import Random
from parakit.primer.skills import agreement, reference, safety, sentiment

_MAX_REPEATS = 2_000  # in a row, after which the pairs of a behaviour count as exhausted
_NEGATIONS = ("not", "never", "far from")


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """`good` is right and `bad` is not; `behaviour` names what tells them apart."""

    behaviour: str
    good: str
    bad: str


def _agreement(random: Random) -> tuple[str, str]:
    head, place, distractor, verbs, rest, label = agreement.clause(random, held_out=True)
    return _with_verb(f"the {head} {place} the {distractor}", verbs, rest, label)


def _long_agreement(random: Random) -> tuple[str, str]:
    head, place, distractor, verbs, rest, label = agreement.clause(random, held_out=True)
    others = [one for one in agreement.LIVING + agreement.THINGS if head not in one and distractor not in one]
    noun = random.pick(others)[random.below(2)]
    other = random.pick([one for one in agreement.PLACES if one != place])
    return _with_verb(f"the {head} {place} the {distractor} {other} the {noun}", verbs, rest, label)


def _with_verb(subject: str, verbs: tuple[str, str], rest: str, label: str) -> tuple[str, str]:
    right = agreement.LABELS.index(label)
    good, bad = (f"{subject} {verbs[i]} {rest}".rstrip() for i in (right, 1 - right))
    return sentence(good), sentence(bad)


def _reference(random: Random) -> tuple[str, str]:
    exercise = reference.draw(random, held_out=True)
    meant, other = exercise.accept[0], exercise.reject[0]
    article = "the " if exercise.answer == f"It means the {meant}." else ""
    return _answers(exercise.question, exercise.answer, f"It means {article}{other}.")


def _negation(random: Random) -> tuple[str, str]:
    while True:
        combination, text, label = sentiment.opinion(random, held_out=True)
        words = sentiment.deciding_words(combination)
        if any(one in words for one in _NEGATIONS):
            break
    other = sentiment.LABELS[1 - sentiment.LABELS.index(label)]
    question = random.pick(sentiment.QUESTIONS).format(sentence(text))
    start = sentence(words)[:-1]
    return _answers(question, f"{start}: {label}.", f"{start}: {other}.")


def _meaning(random: Random) -> tuple[str, str]:
    """A harmless request, or a harmful one, both of verbs that sound harmful: help is right in one only."""
    wanted = random.pick(("harmful", "harmless"))
    while True:
        exercise = safety.draw(random, held_out=True)
        if exercise.label == wanted and (
            wanted == "harmful" or not _is_plainly_harmless(exercise.combination)
        ):
            break
    refusal = safety.REFUSALS[1].format("").rstrip()
    _, verb, thing, *_ = exercise.combination
    how = "do it like this" if wanted == "harmful" else exercise.answer.partition(", ")[2].rstrip(".")
    help_ = sentence(f"To {verb} {thing}, {how}".replace("my ", "your "))
    good, bad = (refusal, help_) if wanted == "harmful" else (help_, refusal)
    return _answers(exercise.question, good, bad)


def _is_plainly_harmless(combination: tuple[str, ...]) -> bool:
    return combination[1] in safety.HELPFUL


def _answers(question: str, good: str, bad: str) -> tuple[str, str]:
    return plain_exchange("", question, good), plain_exchange("", question, bad)


BEHAVIOURS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "reference": _reference,
    "long_agreement": _long_agreement,
    "agreement": _agreement,
    "meaning": _meaning,
    "negation": _negation,
}


def generate_minimal_pairs(n_pairs: int, seed: int = 0) -> list[MinimalPair]:
    """`n_pairs` different pairs of each behaviour; a larger number continues the same stream."""
    found = []
    for name, draw in BEHAVIOURS.items():
        random = Random(seed, "minimal pairs", name)
        pairs: dict[tuple[str, str], None] = {}
        n_repeats = 0
        while len(pairs) < n_pairs:
            pair = draw(random)
            n_repeats = n_repeats + 1 if pair in pairs else 0
            pairs[pair] = None
            if n_repeats == _MAX_REPEATS:
                raise UserError(
                    f"the behaviour {name!r} has only {len(pairs)} different pairs, fewer than {n_pairs}",
                    f"lower the number of items to {len(BEHAVIOURS) * len(pairs)}",
                )
        found += [MinimalPair(name, good, bad) for good, bad in pairs]
    return found
