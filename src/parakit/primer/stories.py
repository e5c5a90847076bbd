"""Short stories about people with motives, weather, places and consequences.

A story is a chain of scenes. Each scene hands clauses to a `Narrator`, which forms the sentences. No story contradicts
`world.py`.
"""

from __future__ import annotations

from parakit.primer.narration import Narrator
from parakit.primer.seeded_random import Random
from parakit.primer.skills.facts import FACTS_ABOUT, state
from parakit.primer.vocabulary import (
    ACCIDENTS,
    AFTERWARDS,
    BOUGHT,
    ESCAPES,
    EVENINGS,
    GIFTS,
    GLAD,
    GRANTED,
    GREETED,
    HELPED,
    LESSONS,
    LINKS,
    MET,
    PARTED,
    PLACES,
    PRECIOUS,
    REPLIED,
    SET_OUT,
    SHARED,
    SOUNDS,
    SPOTS,
    STARTLED,
    SUCCEEDED,
    TIMES,
    TRAVELLED,
    UPSET,
    WANTED,
    WEATHER,
)
from parakit.primer.world import GERUND, MEN, PEOPLE, PETS, TOWN, WOMEN, Person, a

_PETS = {name: pet for name, pet in PETS.items() if pet.kind != "goldfish"}  # a goldfish fetches nothing


def _opening(narrator: Narrator, hero: Person, place: str) -> None:
    random = narrator.random
    time = random.pick(TIMES)
    weather, answers = random.pick(WEATHER)
    kind = random.below(6)
    if kind == 0:
        narrator.add(f"{time} {narrator.refer_to(hero)} went to {place}")
        if random.maybe(0.6):
            narrator.because(weather, f"{hero.subject} {random.pick(answers)}")
    elif kind == 1:
        narrator.add(f"{hero.name}, {a(hero.job)} from {hero.town}, was at {place} {time}")
        narrator.antecedent = hero
    elif kind == 2:
        narrator.because(weather, f"{hero.name} {random.pick(answers)}")
        narrator.antecedent = hero
        narrator.then(f"{hero.subject} came to {place}")
    elif kind == 3:
        narrator.add(f"there was once {a(hero.job)} called {hero.name}")
        narrator.antecedent = hero
        narrator.add(f"{time} {narrator.refer_to(hero)} was on the way to {place}")
    elif kind == 4:
        narrator.add(f"{time} in {hero.town}, {weather} and {hero.name} walked to {place}")
        narrator.antecedent = hero
    else:
        town = TOWN[hero.town]
        narrator.add(f"{town.name} lies beside {town.landscape}, and {hero.name} lives there")
        narrator.antecedent = hero
        narrator.add(f"{time} {hero.subject} {random.pick(SET_OUT)} and walked to {place}")


def _loss(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    thing, trouble = random.pick(PRECIOUS)
    spot, wrong = random.pick_two(SPOTS)
    her = hero.possessive
    if random.maybe(0.5):
        narrator.because(f"{narrator.refer_to(hero)} had lost {her} {thing}", f"{hero.subject} {trouble}")
    else:
        narrator.when(f"{narrator.refer_to(hero)} looked into {her} bag", f"the {thing} was gone")
        narrator.add(f"{hero.subject} was {random.pick(UPSET)}, for without it {hero.subject} {trouble}")
    pet = _PETS.get(hero.name)
    kind = random.below(4)
    if kind == 0 and pet:
        narrator.add(f"{hero.name} called {her} {pet.kind} {pet.name}")
        narrator.then(f"{pet.name} found the {thing} {spot}")
    elif kind == 1:
        narrator.quote(friend, f"have you looked {spot}?")
        narrator.add(f"{hero.name} looked there, and there it was")
    elif kind == 2:
        narrator.add(f"{hero.subject} looked {wrong}, but it was not there")
        narrator.then(f"{friend.name} came by and found it {spot}")
    else:
        narrator.add(f"{hero.subject} and {friend.name} looked for it all day")
        narrator.add(f"in the end they saw the {thing} {spot}")
    narrator.antecedent = None


def _wish(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    deed, need, success = random.pick(WANTED)
    narrator.but(
        f"{narrator.refer_to(hero)} wanted to {deed}", f"{hero.subject} had no {need.removeprefix('a ')}"
    )
    kind = random.below(4)
    if kind == 0:
        narrator.quote(
            hero, f"may I have some {need}?" if not need.startswith("a ") else f"may I have {need}?"
        )
        narrator.quote(friend, random.pick(GRANTED))
    elif kind == 1:
        narrator.add(f"{hero.subject} walked to {random.pick(PLACES)} and bought {need}")
    elif kind == 2:
        narrator.because(f"{friend.name} had {need} at home", f"{hero.name} went to see {friend.object}")
        narrator.then(f"they began to {deed} together")
    else:
        narrator.add(f"{friend.name} heard of it and brought {need}")
    narrator.add(random.pick(SUCCEEDED).format(s=success))
    narrator.antecedent = None


def _meeting(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    narrator.add(f"at {random.pick(PLACES)} {narrator.refer_to(hero)} {random.pick(MET)} {friend.name}")
    kind = random.below(4)
    if kind == 0:
        narrator.quote(friend, random.pick(GREETED))
        narrator.quote(hero, random.pick(REPLIED))
    elif kind == 1:
        narrator.because(
            f"{friend.name} was {random.pick(UPSET)}",
            f"{hero.name} gave {friend.object} {random.pick(GIFTS)}",
        )
        narrator.then(f"{friend.name} smiled again")
    elif kind == 2:
        narrator.add(f"they talked about {GERUND[friend.hobby]}, because {friend.name} loves it")
    else:
        narrator.add(f"{friend.name} was eating {friend.food} and gave {hero.object} some")
        narrator.add(f"{hero.subject} {random.pick(('thanked', 'hugged', 'smiled at'))} {friend.object}")
    narrator.antecedent = None


def _sound(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    narrator.when(
        f"{narrator.refer_to(hero)} heard {random.pick(SOUNDS)}",
        f"{hero.subject} {random.pick(STARTLED)}",
    )
    pet = _PETS.get(friend.name)
    if pet and random.maybe(0.6):
        narrator.add(f"it was {pet.name}, the {pet.colour} {pet.kind} of {friend.name}")
        narrator.because(
            f"{pet.name} {random.pick(ESCAPES)}", f"{hero.name} took {pet.name} back to {friend.name}"
        )
    else:
        narrator.add(f"it was {friend.name}, who {random.pick(ACCIDENTS)}")
        narrator.then(f"{hero.name} {random.pick(HELPED)} {friend.object}")
    narrator.antecedent = None


def _trip(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    town = TOWN[friend.town]
    goods = random.pick(BOUGHT)
    if hero.town == friend.town:
        narrator.add(f"{narrator.refer_to(hero)} visited {friend.name}, who lives in {town.name} too")
    else:
        narrator.add(
            f"{narrator.refer_to(hero)} {random.pick(TRAVELLED)} to {town.name} to see {friend.name}"
        )
    narrator.because(
        f"{town.name} is known for its {town.goods}", f"{hero.subject} {goods.format(g=town.goods)}"
    )
    if random.maybe(0.5):
        narrator.add(f"from {friend.name}'s window they could see {town.landscape}")
    narrator.antecedent = None


def _pastime(narrator: Narrator, hero: Person, friend: Person) -> None:
    random = narrator.random
    loved = GERUND[hero.hobby]
    if hero.hobby == friend.hobby:
        narrator.add(
            f"{narrator.refer_to(hero)} and {friend.name} both love {loved}, so they did it together"
        )
    else:
        narrator.but(
            f"{narrator.refer_to(hero)} loves {loved}", f"{friend.name} likes {GERUND[friend.hobby]} better"
        )
        narrator.add(random.pick(SHARED))
    if random.maybe(0.5):
        hungry = random.pick(("got hungry", "needed a rest", "sat down"))
        narrator.when(f"{hero.name} {hungry}", f"{friend.name} brought {hero.object} {hero.food}")
    narrator.antecedent = None


# A fact mentioned in passing; the opening may have mentioned home and job.
_ASIDES = {
    person.name: tuple(f for f in FACTS_ABOUT[person.name] if f.relation not in ("home", "job"))
    for person in PEOPLE
}
_SCENES = (_loss, _wish, _meeting, _sound, _trip, _pastime)


def _ending(narrator: Narrator, hero: Person, friend: Person) -> None:
    random, kind = narrator.random, narrator.random.below(6)
    if kind == 0:
        narrator.add(f"{hero.name} went home and was {random.pick(GLAD)}")
    elif kind == 1:
        narrator.add(f"that day {hero.name} learnt that {random.pick(LESSONS)}")
    elif kind == 2:
        narrator.quote(friend, random.pick(PARTED))
    elif kind == 3:
        narrator.because(
            f"{hero.name} was {random.pick(('tired', *GLAD))}",
            f"{hero.subject} {random.pick(EVENINGS)}",
        )
    elif kind == 4:
        narrator.add(f"{random.pick(AFTERWARDS)} {hero.name} and {friend.name} were good friends")


def story(random: Random) -> str:
    """A story of three to about fourteen sentences, on one line."""
    narrator = Narrator(random)
    hero, friend = (
        random.pick_two(PEOPLE)
        if random.maybe(0.6)
        else random.pick((random.pick_two(WOMEN), random.pick_two(MEN)))
    )
    _opening(narrator, hero, random.pick(PLACES))
    if random.maybe(0.3):
        narrator.sentences.append(state(random, random.pick(_ASIDES[hero.name])))
        narrator.antecedent = hero
    first, second = random.pick_two(_SCENES)
    if second is _meeting:  # nobody meets for the first time twice
        first, second = second, first
    first(narrator, hero, friend)
    if random.maybe(0.55):
        if random.maybe(0.6):
            narrator.add(random.pick(LINKS))
        second(narrator, *((hero, friend) if random.maybe(0.6) else (friend, hero)))
    _ending(narrator, hero, friend)
    return " ".join(narrator.sentences)
