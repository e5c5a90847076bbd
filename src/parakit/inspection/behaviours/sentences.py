"""Minimal pairs of the five behaviours in plain English, each with the word that decides and one that distracts.

Every fact occurs with both answers, so that no answer is right by itself: a model that prefers "open" to "closed" wherever
they stand is right in half of the pairs. The primer's pairs, for models of its small world, are whole texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from parakit.inspection.names import BEHAVIOURS, PairSet
from parakit.primer.minimal_pairs import generate_minimal_pairs


@dataclass(frozen=True)
class BehaviourPair:
    """`before` + `good` is right, `before` + `bad` is wrong; `after` follows for models that read both sides."""

    behaviour: str
    before: str
    good: str
    bad: str
    after: str = "."
    cue: str = ""
    """The word in `before` that decides; empty where it is not known."""
    distractor: str = ""
    """A word in `before` that pulls to the wrong answer."""


_NAMES = ("Anna", "Paul"), ("Mary", "John"), ("Alice", "Tom"), ("Sarah", "David"), ("Emma", "James")
_STATES = "tired", "hungry", "late", "angry", "happy"
_SIZES = (*(("trophy", "suitcase"), ("ball", "box"), ("book", "bag"), ("chair", "car"), ("lamp", "drawer")),)


def _reference() -> Iterator[tuple[str, ...]]:
    for (woman, man), state in zip(_NAMES, _STATES, strict=True):
        for pronoun, name, other in (("She", woman, man), ("He", man, woman)):
            yield (
                f"{woman} and {man} were in the kitchen. {pronoun} was {state}. The person who was {state} was",
                name,
                other,
                pronoun,
                other,
            )
    for thing, place in _SIZES:
        for size, name, other in (("big", thing, place), ("small", place, thing)):
            yield (
                f"The {thing} did not fit into the {place} because it was too {size}. What was too {size}? It was the",
                name,
                other,
                size,
                other,
            )


_FILLERS = (
    "It was a cold day in the middle of the winter, and the snow lay deep on the fields around the old house. ",
    "The train was late again, so there was time for a cup of tea and for the newspaper of the day before. ",
    "After lunch they went for a long walk by the river, and nobody spoke about the work that was still to be done. ",
)
_FACTS = (
    *(
        (
            "My cat is called {} and my dog is called {}. ",
            "My cat is called",
            "My dog is called",
            "Tom",
            "Max",
        ),
    ),
    *(
        (
            "The first door is {} and the second door is {}. ",
            "The first door is",
            "The second door is",
            "red",
            "blue",
        ),
    ),
    *(("Peter lives in {} and Lisa lives in {}. ", "Peter lives in", "Lisa lives in", "London", "Paris"),),
    *(
        (
            "The soup is made of {} and the cake of {}. ",
            "The soup is made of",
            "The cake is made of",
            "onions",
            "apples",
        ),
    ),
)


def _long_range() -> Iterator[tuple[str, ...]]:
    for (fact, first, second, one, two), filler in itertools.product(_FACTS, _FILLERS):
        start = fact.format(one, two) + filler
        yield start + first, one, two, one, two
        yield start + second, two, one, two, one


_NOUNS = (
    *("key/keys", "teacher/teachers", "dog/dogs", "picture/pictures", "friend/friends", "letter/letters"),
)
_OTHERS = (
    *("to the cabinet/to the cabinets", "of the student/of the students", "near the window/near the windows"),
    *(
        "behind the tree/behind the trees",
        "with the red hat/with the red hats",
        "from the bank/from the banks",
    ),
)


def _agreement() -> Iterator[tuple[str, ...]]:
    for number, (noun, other) in enumerate(itertools.product(_NOUNS, _OTHERS)):
        one, several = noun.split("/")
        single, plural = other.split("/")
        verbs = (("is", "are"), ("was", "were"), ("has", "have"))[number % 3]
        yield f"The {several} {single}", verbs[1], verbs[0], several, single.split()[-1]
        yield f"The {one} {plural}", verbs[0], verbs[1], one, plural.split()[-1]


# a word of two meanings, and for each a context and what follows
_MEANINGS = (
    *(
        ("He sat on the bank of the river and looked at the", "water", "river"),
        ("He went into the bank with a check and came out with the", "money", "check"),
    ),
    *(
        ("She rowed to the bank of the lake and stepped out of the", "boat", "lake"),
        ("She asked the bank for a loan to pay for the", "house", "loan"),
    ),
    *(
        ("The bat hung from the ceiling of the cave, and it opened its", "wings", "cave"),
        ("The player took the bat in both hands and hit the", "ball", "player"),
    ),
    *(
        ("The bark came from the yard, where the neighbor keeps his", "dog", "yard"),
        ("The bark was rough and brown, and it had fallen from the", "tree", "rough"),
    ),
    *(
        ("In spring the snow melts, and in the garden grow the first", "flowers", "snow"),
        ("The spring in the old mattress was broken, so he bought a new", "bed", "mattress"),
    ),
    *(
        ("He struck a match in the dark to light the", "candle", "dark"),
        ("They won the match by two goals, and the fans cheered for the", "team", "goals"),
    ),
    *(
        ("The mouse ran across the kitchen floor, away from the", "cat", "kitchen"),
        ("Click with the mouse to move the window on the", "screen", "Click"),
    ),
    *(
        ("The crane lifted the steel beams to the top of the", "building", "steel"),
        ("The crane spread its feathers and flew back to its", "nest", "feathers"),
    ),
)


def _meaning() -> Iterator[tuple[str, ...]]:
    for first, second in zip(_MEANINGS[::2], _MEANINGS[1::2], strict=True):
        yield first[0], first[1], second[1], first[2], ""
        yield second[0], second[1], first[1], second[2], ""


_OPPOSITES = (
    *(("door", "open", "closed"), ("glass", "full", "empty"), ("room", "dark", "bright"), ("street", "wet", "dry")),
    *(("box", "heavy", "light"), ("water", "hot", "cold"), ("knife", "sharp", "blunt"), ("test", "easy", "hard")),
    *(("man", "old", "young"), ("car", "fast", "slow")),
)  # fmt: skip


def _negation() -> Iterator[tuple[str, ...]]:
    for thing, one, other in _OPPOSITES:
        for word, opposite in ((one, other), (other, one)):
            yield f"The {thing} is not {word}. In other words, the {thing} is", opposite, word, "not", word
        yield f"The {thing} is really {one}. In other words, the {thing} is", one, other, "really", ""


_SOURCES: dict[str, Callable[[], Iterator[tuple[str, ...]]]] = {
    "reference": _reference,
    "long_range": _long_range,
    "agreement": _agreement,
    "meaning": _meaning,
    "negation": _negation,
}


def english_pairs() -> list[BehaviourPair]:
    """All pairs, by behaviour."""
    return [
        BehaviourPair(name, before, f" {good}", f" {bad}", cue=cue, distractor=distractor)
        for name, source in _SOURCES.items()
        for before, good, bad, cue, distractor in source()
    ]


_PRIMER = {
    "reference": "reference",
    "long_agreement": "long_range",
    "agreement": "agreement",
    "meaning": "meaning",
    "negation": "negation",
}
_NEGATIONS = ("not", "never", "far")


def primer_pairs(n_pairs: int, seed: int = 0) -> list[BehaviourPair]:
    """`n_pairs` of each behaviour about the primer's world, each split where its two texts begin to differ."""
    found = []
    for one in generate_minimal_pairs(n_pairs, seed):
        words = _differing_words(one.good, one.bad)
        behaviour = _PRIMER[one.behaviour]
        found.append(BehaviourPair(behaviour, *words, cue=_primer_cue(behaviour, words[0])))
    return found


def _differing_words(good: str, bad: str) -> tuple[str, str, str, str]:
    """What both begin with, what follows it in each, and what both end with: whole words, with the space before them."""
    first, second = good.split(" "), bad.split(" ")
    shorter = min(len(first), len(second))
    n_before = next((i for i in range(shorter) if first[i] != second[i]), shorter - 1)
    n_after = next((i for i in range(shorter - n_before) if first[-1 - i] != second[-1 - i]), 0)
    ends = [words[n_before : len(words) - n_after] for words in (first, second)]
    after = first[len(first) - n_after :] if n_after else []
    good_words, bad_words = (" " * bool(n_before) + " ".join(words) for words in ends)
    return " ".join(first[:n_before]), good_words, bad_words, " " * bool(after) + " ".join(after)


def _primer_cue(behaviour: str, before: str) -> str:
    """The subject's head, which is the second word, or the negation."""
    words = before.split()
    if behaviour in ("agreement", "long_range"):
        return words[1] if len(words) > 1 else ""
    if behaviour == "negation":
        return next((word for word in reversed(words) if word in _NEGATIONS), "")
    return ""


def pairs_of(pair_set: PairSet, n_pairs: int, seed: int = 0) -> dict[str, list[BehaviourPair]]:
    """At most `n_pairs` of each behaviour, in an order that mixes their kinds."""
    every = primer_pairs(n_pairs, seed) if pair_set == "primer" else english_pairs()
    return {name: _spread([one for one in every if one.behaviour == name], n_pairs) for name in BEHAVIOURS}


def _spread(pairs: Sequence[BehaviourPair], n_pairs: int) -> list[BehaviourPair]:
    """Evenly over the list, both halves of a fact together."""
    if len(pairs) <= n_pairs:
        return list(pairs)
    return [pairs[i * len(pairs) // n_pairs] for i in range(n_pairs)]
