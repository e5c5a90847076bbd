"""Subject-verb agreement across a distractor: "the keys near the box are", never "is".

The verb follows the head noun, not the noun next to it. In most questions the two differ in number.
Held out are pairs of (head noun, distractor), in either number.
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise
from parakit.primer.seeded_random import Random, is_held_out

NAME = "agreement"
LABELS = ("singular", "plural")
HELD_OUT_PERCENT = 20

THINGS = (
    ("key", "keys"), ("box", "boxes"), ("cup", "cups"), ("lamp", "lamps"), ("book", "books"),
    ("chair", "chairs"), ("flower", "flowers"), ("boat", "boats"), ("picture", "pictures"),
    ("bell", "bells"), ("stone", "stones"), ("basket", "baskets"),
)  # fmt: skip
LIVING = (
    ("boy", "boys"), ("girl", "girls"), ("dog", "dogs"), ("cat", "cats"), ("horse", "horses"),
    ("teacher", "teachers"), ("farmer", "farmers"), ("bird", "birds"), ("sailor", "sailors"),
    ("child", "children"), ("woman", "women"), ("man", "men"),
)  # fmt: skip
PLACES = ("near", "behind", "beside", "next to", "in front of", "close to", "far from")
LINKS = (("is", "are"), ("was", "were"))
STATES = ("new", "old", "clean", "red", "small", "big", "wet", "cold", "dirty", "beautiful")
MOODS = ("tired", "happy", "hungry", "sad", "quiet", "young", "old", "busy", "angry", "ready")
ACTIONS = (
    ("sings", "sing"), ("runs", "run"), ("sleeps", "sleep"), ("waits", "wait"), ("plays", "play"),
    ("works", "work"), ("has a cold", "have a cold"), ("likes music", "like music"),
)  # fmt: skip
QUESTIONS = (
    "Which is right, '{x}' or '{y}': the {h} {p} the {d} ___ {r}?",
    "Choose '{x}' or '{y}': the {h} {p} the {d} ___ {r}.",
    "Fill the gap with '{x}' or '{y}': the {h} {p} the {d} ___ {r}.",
    "'{x}' or '{y}': the {h} {p} the {d} ___ {r}?",
    "Which word is missing, '{x}' or '{y}', in \"the {h} {p} the {d} ___ {r}\"?",
)


def clause(random: Random, held_out: bool = False) -> tuple[str, str, str, tuple[str, str], str, str]:
    """(head, place, distractor, (singular, plural verb), rest, label); both labels are equally likely."""
    label = random.pick(LABELS)
    number = LABELS.index(label)
    while True:
        living = random.maybe(0.5)
        head, distractor = random.pick(LIVING if living else THINGS), random.pick(LIVING + THINGS)
        if head is not distractor and is_held_out(HELD_OUT_PERCENT, NAME, head[0], distractor[0]) == held_out:
            break
    other_number = 1 - number if random.maybe(0.75) else number
    if living and random.maybe(0.5):
        singular, plural = random.pick(ACTIONS)
        verbs, rest = (singular.split()[0], plural.split()[0]), " ".join(singular.split()[1:])
    else:
        verbs, rest = random.pick(LINKS), random.pick(MOODS if living else STATES)
    return head[number], random.pick(PLACES), distractor[other_number], verbs, rest, label


def draw(random: Random, held_out: bool = False) -> Exercise:
    head, place, distractor, verbs, rest, label = clause(random, held_out)
    right = verbs[LABELS.index(label)]
    x, y = verbs if random.maybe(0.5) else verbs[::-1]
    question = random.pick(QUESTIONS).format(x=x, y=y, h=head, p=place, d=distractor, r=rest or "now")
    whole = f"The {head} {place} the {distractor} {right} {rest or 'now'}"
    return Exercise(
        question,
        f"{right.capitalize()}.",
        (NAME, head, distractor, place, right),
        accept=(whole,),
        label=label,
    )


def statement(random: Random) -> str:
    """A complete clause of the training side, without its full stop."""
    head, place, distractor, verbs, rest, label = clause(random)
    return f"the {head} {place} the {distractor} {verbs[LABELS.index(label)]} {rest}".rstrip()
