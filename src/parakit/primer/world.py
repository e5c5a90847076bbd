"""The facts of the primer's world: twenty people, twelve animals, eight towns.

Stories, dialogues and questions all read these tables and never contradict them.
Every person has a home, a job, a favourite food and a hobby; every animal a kind, a colour and an owner;
every town a landscape and a good that it is known for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    she: bool
    town: str
    job: str
    food: str
    hobby: str

    @property
    def subject(self) -> str:
        return "she" if self.she else "he"

    @property
    def object(self) -> str:
        return "her" if self.she else "him"

    @property
    def possessive(self) -> str:
        return "her" if self.she else "his"


@dataclass(frozen=True, slots=True)
class Animal:
    name: str
    kind: str
    colour: str
    owner: str


@dataclass(frozen=True, slots=True)
class Town:
    name: str
    landscape: str
    goods: str


PEOPLE = (
    Person("Anna", True, "Norwick", "baker", "soup", "paints"),
    Person("Mia", True, "Belford", "teacher", "honey", "dances"),
    Person("Lucy", True, "Marley", "doctor", "rice", "sings"),
    Person("Emma", True, "Oakham", "farmer", "cake", "reads"),
    Person("Nora", True, "Redhill", "pilot", "fish", "skates"),
    Person("Clara", True, "Sunbay", "painter", "bread", "swims"),
    Person("Rosa", True, "Greenfield", "sailor", "cheese", "knits"),
    Person("Ella", True, "Stonebridge", "driver", "salad", "paints"),
    Person("Ruth", True, "Norwick", "gardener", "pizza", "sings"),
    Person("Julia", True, "Belford", "singer", "eggs", "climbs"),
    Person("Tom", False, "Marley", "baker", "cheese", "fishes"),
    Person("Ben", False, "Norwick", "teacher", "cake", "skates"),
    Person("Max", False, "Oakham", "doctor", "bread", "dances"),
    Person("Paul", False, "Redhill", "farmer", "honey", "reads"),
    Person("Hugo", False, "Sunbay", "pilot", "pizza", "sings"),
    Person("Felix", False, "Greenfield", "painter", "soup", "climbs"),
    Person("Otto", False, "Stonebridge", "sailor", "rice", "fishes"),
    Person("Simon", False, "Belford", "driver", "fish", "knits"),
    Person("Leo", False, "Sunbay", "gardener", "salad", "swims"),
    Person("Victor", False, "Marley", "singer", "eggs", "reads"),
)

ANIMALS = (
    Animal("Rex", "dog", "brown", "Anna"),
    Animal("Luna", "cat", "black", "Tom"),
    Animal("Coco", "parrot", "green", "Otto"),
    Animal("Daisy", "cow", "white", "Emma"),
    Animal("Star", "horse", "grey", "Paul"),
    Animal("Bubbles", "goldfish", "golden", "Lucy"),
    Animal("Snowy", "rabbit", "white", "Mia"),
    Animal("Rusty", "dog", "red", "Ben"),
    Animal("Shadow", "horse", "black", "Victor"),
    Animal("Honk", "goose", "grey", "Clara"),
    Animal("Ginger", "cat", "golden", "Felix"),
    Animal("Pip", "parrot", "red", "Nora"),
)

TOWNS = (
    Town("Norwick", "a river", "bells"),
    Town("Belford", "a forest", "books"),
    Town("Marley", "a lake", "boats"),
    Town("Oakham", "a hill", "apples"),
    Town("Redhill", "a mountain", "clocks"),
    Town("Sunbay", "the sea", "shells"),
    Town("Greenfield", "a meadow", "flowers"),
    Town("Stonebridge", "a canal", "chairs"),
)

PERSON = {person.name: person for person in PEOPLE}
ANIMAL = {animal.name: animal for animal in ANIMALS}
TOWN = {town.name: town for town in TOWNS}
PETS = {animal.owner: animal for animal in ANIMALS}
WOMEN = tuple(person for person in PEOPLE if person.she)
MEN = tuple(person for person in PEOPLE if not person.she)
NAMES = tuple(person.name for person in PEOPLE)

GERUND = {
    "paints": "painting",
    "dances": "dancing",
    "sings": "singing",
    "reads": "reading",
    "skates": "skating",
    "swims": "swimming",
    "knits": "knitting",
    "climbs": "climbing",
    "fishes": "fishing",
}
COLOURS = tuple(sorted({animal.colour for animal in ANIMALS}))
KINDS = tuple(sorted({animal.kind for animal in ANIMALS}))


def a(noun: str) -> str:
    """`noun` with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
