"""Sentiment of short opinions, negation included.

An opinion is a subject and a predicate: "the film" and "was never boring". A negation turns the adjective
round ("not bad" is positive here), "truly" does not. The answer first quotes the words that decide, then
judges them, as a careful reader does. Held out are pairs of (subject, predicate).
"""

from __future__ import annotations

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.world import NAMES

NAME = "sentiment"
LABELS = ("positive", "negative")
HELD_OUT_PERCENT = 20

SUBJECTS = (
    "film", "book", "soup", "cake", "hotel", "song", "trip", "game", "party", "story", "lesson", "room",
    "concert", "meal", "market", "dance", "play", "boat ride", "garden", "museum", "picnic", "walk", "tour",
    "show",
)  # fmt: skip
GOOD = ("good", "great", "lovely", "wonderful", "nice", "excellent", "pleasant", "delightful")
BAD = ("bad", "awful", "terrible", "boring", "horrible", "dull", "poor", "unpleasant")
# Pattern, and whether it keeps the adjective's polarity.
FRAMES = (
    ("was {}", True),
    ("was truly {}", True),
    ("was really {}", True),
    ("was {} again", True),
    ("was not {}", False),
    ("was never {}", False),
    ("was not {} at all", False),
    ("was far from {}", False),
)
FEELINGS = (
    ("{n} liked {s}", True),
    ("{n} loved {s}", True),
    ("{n} enjoyed {s}", True),
    ("{n} did not like {s}", False),
    ("{n} did not enjoy {s}", False),
    ("{n} never liked {s}", False),
    ("{n} hated {s}", False),
    ("{n} was happy with {s}", True),
    ("{n} was not happy with {s}", False),
    ("{n} was sad about {s}", False),
)
QUESTIONS = (
    "Is this positive or negative: {}",
    "Positive or negative: {}",
    "What is the feeling here, positive or negative: {}",
    "Say whether this is positive or negative: {}",
    "Tell me if this opinion is positive or negative: {}",
    "Is this review negative or positive: {}",
)


def _opinion(random: Random) -> tuple[tuple[str, str], str, str]:
    """(combination, opinion, label); both labels are equally likely."""
    label = random.pick(LABELS)
    subject = random.pick(SUBJECTS)
    while True:
        if random.maybe(0.75):
            frame, keeps = random.pick(FRAMES)
            good = keeps == (label == "positive")
            predicate = frame.format(random.pick(GOOD if good else BAD))
            return (subject, predicate), f"the {subject} {predicate}", label
        frame, liked = random.pick(FEELINGS)
        if liked == (label == "positive"):
            name = random.pick(NAMES)
            return (subject, frame.format(n=name, s="it")), frame.format(n=name, s=f"the {subject}"), label


def opinion(random: Random, held_out: bool = False) -> tuple[tuple[str, str], str, str]:
    """An opinion without capital letter and full stop, from the requested side of the hash."""
    while True:
        drawn = _opinion(random)
        if is_held_out(HELD_OUT_PERCENT, NAME, *drawn[0]) == held_out:
            return drawn


def deciding_words(combination: tuple[str, str]) -> str:
    """The predicate without subject and auxiliary: "not bad", "did not like"."""
    words = [word for word in combination[1].split() if word not in (*NAMES, "was", "it", "with", "about")]
    return " ".join(words)


def draw(random: Random, held_out: bool = False) -> Exercise:
    combination, text, label = opinion(random, held_out)
    other = LABELS[1 - LABELS.index(label)]
    return Exercise(
        random.pick(QUESTIONS).format(sentence(text)),
        f"{sentence(deciding_words(combination))[:-1]}: {label}.",
        (NAME, *combination),
        accept=(label,),
        reject=(other,),
        check="contains_all",
        label=label,
    )
