"""Pronoun reference, after Winograd (1972): one word of the sentence decides what a pronoun means.

Six kinds of scene, each with endings that point at different nouns. Held out are pairs of nouns (or of
people), in every scene, whichever comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.primer.exercise import Exercise
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.world import MEN, WOMEN

NAME = "reference"
LABELS = ("first", "second")
HELD_OUT_PERCENT = 20

THINGS = (
    "ball",
    "book",
    "lamp",
    "toy",
    "hat",
    "cake",
    "shoe",
    "clock",
    "drum",
    "pillow",
    "kite",
    "cup",
    "bell",
    "doll",
)
HOLDERS = ("box", "bag", "case", "basket", "drawer", "chest", "pocket", "cupboard", "bucket", "tin")
HUNTERS = ("cat", "dog", "fox", "wolf", "owl", "hawk", "bear", "lion")
HUNTED = ("mouse", "rabbit", "hen", "frog", "duck", "fish", "deer", "goat")
HARD = ("stone", "hammer", "ball", "brick", "chair", "bell", "ladder", "drum")
BREAKABLE = ("cup", "plate", "lamp", "window", "vase", "clock", "bottle", "mirror")
PLURALS = (
    "cups",
    "books",
    "hats",
    "shoes",
    "toys",
    "bells",
    "apples",
    "keys",
    "dolls",
    "kites",
    "eggs",
    "lamps",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """`text` ends with the deciding clause: {a} is the first noun, {b} the second, {why} one of the endings."""

    text: str
    first: tuple[str, ...]
    second: tuple[str, ...]


_THINGS_SCENES = (
    (
        (THINGS, HOLDERS),
        (
            Scene(
                "the {a} does not fit in the {b} because it is {why}",
                ("too big", "too wide"),
                ("too small", "too narrow"),
            ),
            Scene(
                "the {a} would not go into the {b}, since it was {why}",
                ("too large", "too long"),
                ("too little", "too full"),
            ),
        ),
    ),
    (
        (HUNTERS, HUNTED),
        (
            Scene(
                "the {a} did not catch the {b} because it was {why}",
                ("too slow", "too tired"),
                ("too fast", "too quick"),
            ),
            Scene(
                "the {a} went after the {b} because it was {why}",
                ("hungry", "hunting"),
                ("running away", "easy to catch"),
            ),
        ),
    ),
    (
        (HARD, BREAKABLE),
        (
            Scene(
                "the {a} fell on the {b} and broke it because it was {why}",
                ("heavy", "hard"),
                ("thin", "weak"),
            ),
            Scene(
                "the {a} hit the {b}, and since it was {why} there was a crash",
                ("so heavy", "so hard"),
                ("so thin", "so weak"),
            ),
        ),
    ),
)
_PEOPLE_SCENES = (
    Scene(
        "{a} gave {b} some soup because {s} {why}",
        ("was kind", "had cooked it"),
        ("was hungry", "had asked for it"),
    ),
    Scene(
        "{a} thanked {b} because {s} {why}",
        ("was grateful", "had got help"),
        ("was helpful", "had given help"),
    ),
    Scene(
        "{a} called {b} since {s} {why}", ("wanted to talk", "needed advice"), ("did not come", "was late")
    ),
    Scene(
        "{a} carried the bag of {b} because {s} {why}",
        ("was strong", "wanted to help"),
        ("was tired", "could not lift it"),
    ),
)
_MIXED_SCENE = (
    "{a} met {b} when {s} was {why}",
    ("going home", "at the market", "on the bridge", "looking for work"),
)
_NUMBER_SCENES = (
    "put the {a} next to the {b} and then painted {s}",
    "found the {a} behind the {b} and took {s} home",
    "saw the {a} beside the {b} and cleaned {s}",
)
QUESTIONS = (
    "In the sentence \"{t}\", {w} is meant by '{s}'?",
    "{W} does '{s}' mean in \"{t}\"?",
    "{W} is meant by '{s}' in \"{t}\"?",
    "Read \"{t}\" and say {w} '{s}' means.",
    "{W} does the word '{s}' stand for in \"{t}\"?",
)


def _is_pair_held_out(first: str, second: str) -> bool:
    return is_held_out(HELD_OUT_PERCENT, NAME, *sorted((first, second)))


def _pair(
    random: Random, firsts: tuple[str, ...], seconds: tuple[str, ...], *, held_out: bool
) -> tuple[str, str]:
    while True:
        first, second = random.pick(firsts), random.pick(seconds)
        if first != second and _is_pair_held_out(first, second) == held_out:
            return first, second


_SHE = tuple(person.name for person in WOMEN)
_HE = tuple(person.name for person in MEN)
_COUPLES, _NUMBERS = (_SHE, _HE), (PLURALS, HOLDERS)


def scene(random: Random, held_out: bool = False) -> tuple[str, str, str, str, str]:
    """(text, pronoun, first noun, second noun, label) of one scene; both labels are equally likely."""
    label, kind = random.pick(LABELS), random.below(6)
    if kind < 3:
        (firsts, seconds), scenes = _THINGS_SCENES[kind]
        chosen = random.pick(scenes)
        first, second = _pair(random, firsts, seconds, held_out=held_out)
        text = chosen.text.format(
            a=first, b=second, why=random.pick(chosen.first if label == "first" else chosen.second)
        )
        return text, "it", f"the {first}", f"the {second}", label
    if kind == 3:
        names, pronoun = random.pick(((_SHE, "she"), (_HE, "he")))
        chosen = random.pick(_PEOPLE_SCENES)
        first, second = _pair(random, names, names, held_out=held_out)
        why = random.pick(chosen.first if label == "first" else chosen.second)
        return chosen.text.format(a=first, b=second, s=pronoun, why=why), pronoun, first, second, label
    if kind == 4:
        women_first = random.maybe(0.5)
        first, second = _pair(random, *(_COUPLES if women_first else _COUPLES[::-1]), held_out=held_out)
        pronoun = "she" if women_first == (label == "first") else "he"
        text = _MIXED_SCENE[0].format(a=first, b=second, s=pronoun, why=random.pick(_MIXED_SCENE[1]))
        return text, pronoun, first, second, label
    plural_first = random.maybe(0.5)
    first, second = _pair(random, *(_NUMBERS if plural_first else _NUMBERS[::-1]), held_out=held_out)
    pronoun = "them" if plural_first == (label == "first") else "it"
    text = f"{random.pick(_SHE + _HE)} {random.pick(_NUMBER_SCENES).format(a=first, b=second, s=pronoun)}"
    return text, pronoun, f"the {first}", f"the {second}", label


def draw(random: Random, held_out: bool = False) -> Exercise:
    text, pronoun, first, second, label = scene(random, held_out)
    meant, other = (first, second) if label == "first" else (second, first)
    asks = "who" if pronoun in ("she", "he") else "what"
    return Exercise(
        random.pick(QUESTIONS).format(t=text[0].upper() + text[1:], s=pronoun, w=asks, W=asks.capitalize()),
        f"It means {meant}.",
        (NAME, *sorted((first, second)), text),
        accept=(meant.removeprefix("the "),),
        reject=(other.removeprefix("the "),),
        check="contains_all",
        label=label,
    )
