"""The same question answered for a child, for an expert, and in a role.

An answer has a content, which depends on the topic (and is technical for the expert), and a manner, which
depends on the audience: set openings and closings that everybody would recognise. Held out are (topic,
audience, phrasing), and, where the audience is named by the system prompt, (topic, phrasing).
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.seeded_random import Random, is_held_out

NAME = "audience"
HELD_OUT_PERCENT = 25


@dataclass(frozen=True, slots=True)
class Topic:
    """`what` is the question's object, `plain` and `technical` the content; `keys` and `technical_keys` must
    be in an answer.
    """

    name: str
    plain: str
    keys: tuple[str, ...]
    technical: str
    technical_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audience:
    """`marks` are the words by which its manner is known (alternatives)."""

    name: str
    phrasings: tuple[str, ...]
    systems: tuple[str, ...]
    frames: tuple[str, ...]
    markers: str


TOPICS = (
    Topic("rain", "rain is water that falls from the clouds", ("water", "clouds"),
        "rain is condensed vapour that falls under gravity", ("vapour", "gravity")),
    Topic("snow", "snow is frozen water that falls in white flakes", ("frozen", "flakes"),
        "snow is vapour that turns into ice crystals", ("vapour", "crystals")),
    Topic("the wind", "the wind is air that moves from place to place", ("air", "moves"),
        "the wind is a flow of gas driven by pressure", ("gas", "pressure")),
    Topic("the sun", "the sun is a very hot star that gives us light", ("star", "light"),
        "the sun is a body of plasma that runs on nuclear fusion", ("plasma", "fusion")),
    Topic("the moon", "the moon is a ball of rock that goes round the earth", ("rock", "earth"),
        "the moon is a satellite in a bound orbit", ("satellite", "orbit")),
    Topic("ice", "ice is water that is so cold that it is hard", ("water", "cold"),
        "ice is the crystal phase of water", ("crystal", "phase")),
    Topic("a rainbow", "a rainbow is sunlight split into colours by rain", ("sunlight", "colours"),
        "a rainbow is a spectrum made by refraction", ("spectrum", "refraction")),
    Topic("thunder", "thunder is the loud noise that comes after lightning", ("noise", "lightning"),
        "thunder is a shock wave from an electric discharge", ("wave", "discharge")),
    Topic("a shadow", "a shadow is a dark place where no light comes", ("dark", "light"),
        "a shadow is a region where radiation is blocked", ("region", "radiation")),
    Topic("an echo", "an echo is a sound that comes back from a wall", ("sound", "wall"),
        "an echo is an acoustic wave after reflection", ("acoustic", "reflection")),
    Topic("a seed", "a seed is a small thing from which a plant grows", ("plant", "grows"),
        "a seed is an embryo with a store of nutrients", ("embryo", "nutrients")),
    Topic("the heart", "the heart is a muscle that pushes blood round the body", ("muscle", "blood"),
        "the heart is the organ that drives circulation", ("organ", "circulation")),
    Topic("sleep", "sleep is a long rest for the body and the head", ("rest", "body"),
        "sleep is a state of low metabolism and neural repair", ("metabolism", "neural")),
    Topic("rust", "rust is the red dust that eats wet iron", ("red", "iron"),
        "rust is an oxide formed by slow oxidation", ("oxide", "oxidation")),
    Topic("a magnet", "a magnet is a stone that pulls iron to itself", ("pulls", "iron"),
        "a magnet is a solid with aligned electron spins", ("aligned", "spins")),
    Topic("a volcano", "a volcano is a mountain that throws out hot rock", ("mountain", "hot"),
        "a volcano is a vent that releases magma from the mantle", ("vent", "magma")),
    Topic("salt", "salt is the white powder that comes from the sea", ("powder", "sea"),
        "salt is an ionic compound of sodium", ("ionic", "sodium")),
    Topic("fire", "fire is hot and bright and it burns wood", ("hot", "wood"),
        "fire is the rapid combustion of a fuel", ("combustion", "fuel")),
    Topic("a cloud", "a cloud is made of many tiny drops of water", ("drops", "water"),
        "a cloud is an aerosol of liquid droplets", ("aerosol", "droplets")),
    Topic("honey", "honey is sweet food that bees make from flowers", ("sweet", "bees"),
        "honey is a sugar solution of fructose and glucose", ("fructose", "glucose")),
)  # fmt: skip

AUDIENCES = (
    Audience(
        "child",
        (
            "explain {} to a child.",
            "how would you explain {} to a little child?",
            "tell a small child what {} is.",
            "what is {}, in words for a child?",
            "I am five years old, what is {}?",
            "please describe {} for a young child.",
        ),
        ("You are talking to a child.", "The listener is a small child."),
        ("Well, little one, {}. Isn't that nice?", "Listen, little one: {}. Isn't that fun?"),
        "little one",
    ),
    Audience(
        "expert",
        (
            "explain {} to an expert.",
            "how would you explain {} to a scientist?",
            "tell an expert what {} is.",
            "what is {}, in technical words?",
            "I am a scientist, what is {}?",
            "please describe {} for an expert.",
        ),
        ("You are talking to an expert.", "The listener is a scientist."),
        ("In technical terms, {}.", "Technically speaking, {}."),
        "technical terms|technically",
    ),
    Audience(
        "pirate",
        (
            "explain {} like a pirate.",
            "how would a pirate explain {}?",
            "tell me what {} is as a pirate would.",
            "what is {}, in the words of a pirate?",
            "play a pirate and say what {} is.",
            "please describe {} in the voice of a pirate.",
        ),
        ("You are a pirate.", "You speak like a pirate."),
        ("Arr, matey, {}. Yo ho ho!", "Ahoy, matey! Arr, {}. Yo ho ho!"),
        "arr|matey|yo ho ho",
    ),
    Audience(
        "robot",
        (
            "explain {} like a robot.",
            "how would a robot explain {}?",
            "tell me what {} is as a robot would.",
            "what is {}, in the words of a robot?",
            "play a robot and say what {} is.",
            "please describe {} in the voice of a robot.",
        ),
        ("You are a robot.", "You speak like a robot."),
        ("Beep. {}. End of message.", "Beep boop. {}. End of message."),
        "beep|end of message",
    ),
    Audience(
        "cowboy",
        (
            "explain {} like a cowboy.",
            "how would a cowboy explain {}?",
            "tell me what {} is as a cowboy would.",
            "what is {}, in the words of a cowboy?",
            "play a cowboy and say what {} is.",
            "please describe {} in the voice of a cowboy.",
        ),
        ("You are a cowboy.", "You speak like a cowboy."),
        ("Howdy, partner, {}. Yee-haw!", "Howdy, partner! I reckon {}. Yee-haw!"),
        "howdy|partner|yee-haw",
    ),
)
LABELS = tuple(audience.name for audience in AUDIENCES)
PLAIN_QUESTIONS = (
    "what is {}?",
    "can you explain {}?",
    "tell me about {}.",
    "I want to know what {} is.",
    "describe {}, please.",
)


def answer(random: Random, topic: Topic, audience: Audience) -> str:
    content = topic.technical if audience.name == "expert" else topic.plain
    frame = random.pick(audience.frames)
    if frame.split("{}")[0].rstrip().endswith((".", "!")):
        content = content[0].upper() + content[1:]
    return frame.format(content)


def _is_held_out(*key: str) -> bool:
    return is_held_out(HELD_OUT_PERCENT, NAME, *key)


def draw(random: Random, held_out: bool = False) -> Exercise:
    while True:
        topic, audience = random.pick(TOPICS), random.pick(AUDIENCES)
        by_system = random.maybe(0.3)
        phrasing = random.pick(PLAIN_QUESTIONS if by_system else audience.phrasings)
        key = (topic.name, phrasing) if by_system else (topic.name, audience.name, phrasing)
        if _is_held_out(*key) == held_out:
            break
    technical = audience.name == "expert"
    others = [other.markers for other in AUDIENCES if other is not audience]
    return Exercise(
        sentence(phrasing.format(topic.name)),
        answer(random, topic, audience),
        (NAME, *key),
        system=random.pick(audience.systems) if by_system else "",
        accept=(audience.markers, *(topic.technical_keys if technical else topic.keys)),
        reject=tuple(others),
        check="style",
        label=audience.name,
    )


def draw_plain(random: Random) -> Exercise:
    """A question and answer in no particular manner; training only."""
    while True:
        topic, phrasing = random.pick(TOPICS), random.pick(PLAIN_QUESTIONS)
        if not _is_held_out(topic.name, phrasing):
            return Exercise(
                sentence(phrasing.format(topic.name)), sentence(topic.plain), (NAME, topic.name, phrasing)
            )
