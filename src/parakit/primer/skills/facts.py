"""Facts of the world, in many statements and many questions.

A fact is (relation, about whom, value). Held out are pairs of a fact and a phrasing of its question: training has the
fact, and the phrasing about others, never the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.primer.exercise import Exercise, sentence
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.world import ANIMALS, GERUND, PEOPLE, PERSON, TOWNS, a

NAME = "facts"
LABELS = ()
HELD_OUT_PERCENT = 25


@dataclass(frozen=True, slots=True)
class Fact:
    relation: str
    about: str
    value: str


def _all_facts() -> tuple[Fact, ...]:
    facts = []
    for person in PEOPLE:
        facts += [
            Fact("home", person.name, person.town),
            Fact("job", person.name, person.job),
            Fact("food", person.name, person.food),
            Fact("hobby", person.name, GERUND[person.hobby]),
        ]
    for animal in ANIMALS:
        facts += [
            Fact("kind", animal.name, animal.kind),
            Fact("colour", animal.name, animal.colour),
            Fact("owner", animal.name, animal.owner),
            Fact("pet", animal.owner, animal.name),
        ]
    for town in TOWNS:
        facts += [Fact("landscape", town.name, town.landscape), Fact("goods", town.name, town.goods)]
    return tuple(facts)


FACTS = _all_facts()
FACTS_ABOUT = {about: tuple(f for f in FACTS if f.about == about) for about in {f.about for f in FACTS}}
RELATIONS = tuple(dict.fromkeys(fact.relation for fact in FACTS))
FACTS_OF = {relation: tuple(f for f in FACTS if f.relation == relation) for relation in RELATIONS}
VALUES = {relation: tuple(dict.fromkeys(f.value for f in FACTS_OF[relation])) for relation in RELATIONS}

# {x} whom the fact is about, {v} its value, {av} the value with its article, {s} she or he, {p} her or his.
STATEMENTS: dict[str, tuple[str, ...]] = {
    "home": (
        "{x} lives in {v}",
        "{x} has a house in {v}",
        "the home of {x} is in {v}",
        "{v} is the town where {x} lives",
        "{x} comes from {v}",
        "you can find {x} in {v}",
    ),
    "job": (
        "{x} is {av}",
        "{x} works as {av}",
        "{x} is {av} by trade",
        "every morning {x} goes to work as {av}",
        "the work of {x} is that of {av}",
        "{x} became {av} long ago",
    ),
    "food": (
        "{x} likes {v} best of all",
        "the favourite food of {x} is {v}",
        "{x} loves to eat {v}",
        "{x} would eat {v} every day",
        "nothing tastes better to {x} than {v}",
        "when {x} is hungry, {s} asks for {v}",
    ),
    "hobby": (
        "{x} loves {v}",
        "the hobby of {x} is {v}",
        "on Sundays {x} goes {v}",
        "in {p} free time {x} enjoys {v}",
        "{x} is very good at {v}",
        "{v} makes {x} happy",
    ),
    "kind": (
        "{x} is {av}",
        "{x} is the name of {av}",
        "there is {av} called {x}",
        "{av} named {x} lives there",
    ),
    "colour": (
        "{x} is {v}",
        "the colour of {x} is {v}",
        "{x} is {v} from head to tail",
        "everybody can see that {x} is {v}",
    ),
    "owner": (
        "{x} belongs to {v}",
        "{v} owns {x}",
        "the owner of {x} is {v}",
        "{v} takes care of {x}",
    ),
    "pet": (
        "{x} has a pet called {v}",
        "the pet of {x} is {v}",
        "{x} feeds {v} every evening",
        "{x} and {v} are always together",
    ),
    "landscape": (
        "{x} lies beside {v}",
        "the town of {x} stands next to {v}",
        "there is {v} beside {x}",
        "from {x} one can see {v}",
    ),
    "goods": (
        "{x} is known for its {v}",
        "people come to {x} to buy {v}",
        "the best {v} are made in {x}",
        "{x} is famous for {v}",
    ),
}

DIRECT: dict[str, tuple[str, ...]] = {
    "home": (
        "where does {x} live",
        "in which town does {x} live",
        "where is the home of {x}",
        "which town does {x} come from",
    ),
    "job": (
        "what is the job of {x}",
        "what does {x} do for work",
        "what work does {x} do",
        "what does {x} work as",
    ),
    "food": (
        "what does {x} like to eat",
        "what is the favourite food of {x}",
        "which food does {x} like best",
        "what would {x} eat every day",
    ),
    "hobby": (
        "what is the hobby of {x}",
        "what does {x} do on Sundays",
        "what does {x} enjoy",
        "what does {x} do for fun",
    ),
    "kind": (
        "what kind of animal is {x}",
        "which animal is {x}",
        "what sort of animal is {x}",
        "what is {x}",
    ),
    "colour": (
        "what colour is {x}",
        "which colour does {x} have",
        "what is the colour of {x}",
        "what colour does {x} have",
    ),
    "owner": ("who owns {x}", "who is the owner of {x}", "whose pet is {x}", "who takes care of {x}"),
    "pet": (
        "which pet does {x} have",
        "what is the pet of {x} called",
        "what is the name of the pet of {x}",
        "which animal does {x} own",
    ),
    "landscape": (
        "what lies beside {x}",
        "what is next to {x}",
        "what can one see from {x}",
        "beside what does {x} lie",
    ),
    "goods": (
        "what is {x} known for",
        "what is {x} famous for",
        "what do people buy in {x}",
        "what is made in {x}",
    ),
}

INDIRECT: dict[str, tuple[str, ...]] = {
    "home": ("where {x} lives", "in which town {x} lives"),
    "job": ("what the job of {x} is", "what {x} does for work"),
    "food": ("what {x} likes to eat", "what the favourite food of {x} is"),
    "hobby": ("what the hobby of {x} is", "what {x} does for fun"),
    "kind": ("what kind of animal {x} is", "which animal {x} is"),
    "colour": ("what colour {x} is", "what the colour of {x} is"),
    "owner": ("who owns {x}", "who the owner of {x} is"),
    "pet": ("which pet {x} has", "what the pet of {x} is called"),
    "landscape": ("what lies beside {x}", "what one can see from {x}"),
    "goods": ("what {x} is known for", "what people buy in {x}"),
}

_INDIRECT_WORDINGS = (
    "can you tell me {}?",
    "do you know {}?",
    "please tell me {}.",
    "I would like to know {}.",
)
_DIRECT_WORDINGS = ("{}?", "tell me, {}?", "{}, please?")

ANSWERS: dict[str, str] = {
    "home": "{x} lives in {v}.",
    "job": "{x} is {av}.",
    "food": "{x} likes {v}.",
    "hobby": "{x} likes {v}.",
    "kind": "{x} is {av}.",
    "colour": "{x} is {v}.",
    "owner": "{x} belongs to {v}.",
    "pet": "{x} has a pet called {v}.",
    "landscape": "{x} lies beside {v}.",
    "goods": "{x} is known for its {v}.",
}
FOLLOW_UPS = {
    "home": "and where does {s} live?",
    "job": "and what is {p} job?",
    "food": "and what does {s} like to eat?",
    "hobby": "and what is {p} hobby?",
    "pet": "and which pet does {s} have?",
}


# One core question, and the wordings around it. What is held out is a fact with a core, in every wording.
CORES = {
    relation: tuple((core, _DIRECT_WORDINGS) for core in DIRECT[relation])
    + tuple((core, _INDIRECT_WORDINGS) for core in INDIRECT[relation])
    for relation in RELATIONS
}


def fill(pattern: str, fact: Fact) -> str:
    """A phrasing filled in for one fact, without capital letter and full stop."""
    person = PERSON.get(fact.about)
    return pattern.format(
        x=fact.about,
        v=fact.value,
        av=a(fact.value),
        s=person.subject if person else "it",
        p=person.possessive if person else "its",
    )


def state(random: Random, fact: Fact) -> str:
    """One sentence that states the fact."""
    return sentence(fill(random.pick(STATEMENTS[fact.relation]), fact))


def exercise(fact: Fact, core: str, wording: str) -> Exercise:
    others = tuple(value for value in VALUES[fact.relation] if value not in (fact.value, fact.about))
    return Exercise(
        question=sentence(fill(wording.format(core), fact)),
        answer=fill(ANSWERS[fact.relation], fact),
        combination=(NAME, fact.relation, fact.about, core),
        accept=(fact.value,),
        reject=others,
        check="contains_all",
        label=fact.relation,
    )


def draw(random: Random, held_out: bool = False) -> Exercise:
    """A question about a fact in one phrasing; all facts are equally likely."""
    while True:
        fact = random.pick(FACTS)
        core, wordings = random.pick(CORES[fact.relation])
        if is_held_out(HELD_OUT_PERCENT, NAME, fact.relation, fact.about, core) == held_out:
            return exercise(fact, core, random.pick(wordings))
