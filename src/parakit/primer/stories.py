"""Short stories: a small simulation of people with motives, weather, places and consequences, told in varied
sentences.

A story is a chain of scenes. Each scene changes what is true (who has lost what, who helps whom) and hands
plain clauses to the `Teller`, which puts them into sentences. Nothing in a story contradicts `world.py`.
"""

from __future__ import annotations

from parakit.primer.narration import Teller
from parakit.primer.seeded_random import Draws
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


def _opening(tell: Teller, hero: Person, place: str) -> None:
    draws = tell.draws
    time = draws.pick(TIMES)
    weather, answers = draws.pick(WEATHER)
    kind = draws.below(6)
    if kind == 0:
        tell.say(f"{time} {tell.call(hero)} went to {place}")
        if draws.maybe(0.6):
            tell.because(weather, f"{hero.subject} {draws.pick(answers)}")
    elif kind == 1:
        tell.say(f"{hero.name}, {a(hero.job)} from {hero.town}, was at {place} {time}")
        tell.who = hero
    elif kind == 2:
        tell.because(weather, f"{hero.name} {draws.pick(answers)}")
        tell.who = hero
        tell.then(f"{hero.subject} came to {place}")
    elif kind == 3:
        tell.say(f"there was once {a(hero.job)} called {hero.name}")
        tell.who = hero
        tell.say(f"{time} {tell.call(hero)} was on the way to {place}")
    elif kind == 4:
        tell.say(f"{time} in {hero.town}, {weather} and {hero.name} walked to {place}")
        tell.who = hero
    else:
        town = TOWN[hero.town]
        tell.say(f"{town.name} lies beside {town.landscape}, and {hero.name} lives there")
        tell.who = hero
        tell.say(f"{time} {hero.subject} {draws.pick(SET_OUT)} and walked to {place}")


def _loss(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    thing, trouble = draws.pick(PRECIOUS)
    spot, wrong = draws.two(SPOTS)
    her = hero.possessive
    if draws.maybe(0.5):
        tell.because(f"{tell.call(hero)} had lost {her} {thing}", f"{hero.subject} {trouble}")
    else:
        tell.when(f"{tell.call(hero)} looked into {her} bag", f"the {thing} was gone")
        tell.say(f"{hero.subject} was {draws.pick(UPSET)}, for without it {hero.subject} {trouble}")
    pet = _PETS.get(hero.name)
    kind = draws.below(4)
    if kind == 0 and pet:
        tell.say(f"{hero.name} called {her} {pet.kind} {pet.name}")
        tell.then(f"{pet.name} found the {thing} {spot}")
    elif kind == 1:
        tell.speak(friend, f"have you looked {spot}?")
        tell.say(f"{hero.name} looked there, and there it was")
    elif kind == 2:
        tell.say(f"{hero.subject} looked {wrong}, but it was not there")
        tell.then(f"{friend.name} came by and found it {spot}")
    else:
        tell.say(f"{hero.subject} and {friend.name} looked for it all day")
        tell.say(f"in the end they saw the {thing} {spot}")
    tell.who = None


def _wish(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    deed, need, success = draws.pick(WANTED)
    tell.but(f"{tell.call(hero)} wanted to {deed}", f"{hero.subject} had no {need.removeprefix('a ')}")
    kind = draws.below(4)
    if kind == 0:
        tell.speak(hero, f"may I have some {need}?" if not need.startswith("a ") else f"may I have {need}?")
        tell.speak(friend, draws.pick(GRANTED))
    elif kind == 1:
        tell.say(f"{hero.subject} walked to {draws.pick(PLACES)} and bought {need}")
    elif kind == 2:
        tell.because(f"{friend.name} had {need} at home", f"{hero.name} went to see {friend.object}")
        tell.then(f"they began to {deed} together")
    else:
        tell.say(f"{friend.name} heard of it and brought {need}")
    tell.say(draws.pick(SUCCEEDED).format(s=success))
    tell.who = None


def _meeting(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    tell.say(f"at {draws.pick(PLACES)} {tell.call(hero)} {draws.pick(MET)} {friend.name}")
    kind = draws.below(4)
    if kind == 0:
        tell.speak(friend, draws.pick(GREETED))
        tell.speak(hero, draws.pick(REPLIED))
    elif kind == 1:
        tell.because(
            f"{friend.name} was {draws.pick(UPSET)}", f"{hero.name} gave {friend.object} {draws.pick(GIFTS)}"
        )
        tell.then(f"{friend.name} smiled again")
    elif kind == 2:
        tell.say(f"they talked about {GERUND[friend.hobby]}, because {friend.name} loves it")
    else:
        tell.say(f"{friend.name} was eating {friend.food} and gave {hero.object} some")
        tell.say(f"{hero.subject} {draws.pick(('thanked', 'hugged', 'smiled at'))} {friend.object}")
    tell.who = None


def _sound(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    tell.when(
        f"{tell.call(hero)} heard {draws.pick(SOUNDS)}",
        f"{hero.subject} {draws.pick(STARTLED)}",
    )
    pet = _PETS.get(friend.name)
    if pet and draws.maybe(0.6):
        tell.say(f"it was {pet.name}, the {pet.colour} {pet.kind} of {friend.name}")
        tell.because(
            f"{pet.name} {draws.pick(ESCAPES)}", f"{hero.name} took {pet.name} back to {friend.name}"
        )
    else:
        tell.say(f"it was {friend.name}, who {draws.pick(ACCIDENTS)}")
        tell.then(f"{hero.name} {draws.pick(HELPED)} {friend.object}")
    tell.who = None


def _trip(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    town = TOWN[friend.town]
    goods = draws.pick(BOUGHT)
    if hero.town == friend.town:
        tell.say(f"{tell.call(hero)} visited {friend.name}, who lives in {town.name} too")
    else:
        tell.say(f"{tell.call(hero)} {draws.pick(TRAVELLED)} to {town.name} to see {friend.name}")
    tell.because(f"{town.name} is known for its {town.goods}", f"{hero.subject} {goods.format(g=town.goods)}")
    if draws.maybe(0.5):
        tell.say(f"from {friend.name}'s window they could see {town.landscape}")
    tell.who = None


def _pastime(tell: Teller, hero: Person, friend: Person) -> None:
    draws = tell.draws
    loved = GERUND[hero.hobby]
    if hero.hobby == friend.hobby:
        tell.say(f"{tell.call(hero)} and {friend.name} both love {loved}, so they did it together")
    else:
        tell.but(f"{tell.call(hero)} loves {loved}", f"{friend.name} likes {GERUND[friend.hobby]} better")
        tell.say(draws.pick(SHARED))
    if draws.maybe(0.5):
        hungry = draws.pick(("got hungry", "needed a rest", "sat down"))
        tell.when(f"{hero.name} {hungry}", f"{friend.name} brought {hero.object} {hero.food}")
    tell.who = None


# A fact told in passing; where people live and what they do may have been told already.
_ASIDES = {
    person.name: tuple(f for f in FACTS_ABOUT[person.name] if f.relation not in ("home", "job"))
    for person in PEOPLE
}
_SCENES = (_loss, _wish, _meeting, _sound, _trip, _pastime)


def _ending(tell: Teller, hero: Person, friend: Person) -> None:
    draws, kind = tell.draws, tell.draws.below(6)
    if kind == 0:
        tell.say(f"{hero.name} went home and was {draws.pick(GLAD)}")
    elif kind == 1:
        tell.say(f"that day {hero.name} learnt that {draws.pick(LESSONS)}")
    elif kind == 2:
        tell.speak(friend, draws.pick(PARTED))
    elif kind == 3:
        tell.because(
            f"{hero.name} was {draws.pick(('tired', *GLAD))}",
            f"{hero.subject} {draws.pick(EVENINGS)}",
        )
    elif kind == 4:
        tell.say(f"{draws.pick(AFTERWARDS)} {hero.name} and {friend.name} were good friends")


def story(draws: Draws) -> str:
    """A story of three to about fourteen sentences, on one line."""
    tell = Teller(draws)
    hero, friend = draws.two(PEOPLE) if draws.maybe(0.6) else draws.pick((draws.two(WOMEN), draws.two(MEN)))
    _opening(tell, hero, draws.pick(PLACES))
    if draws.maybe(0.3):
        tell.lines.append(state(draws, draws.pick(_ASIDES[hero.name])))
        tell.who = hero
    first, second = draws.two(_SCENES)
    if second is _meeting:  # nobody meets for the first time twice
        first, second = second, first
    first(tell, hero, friend)
    if draws.maybe(0.55):
        if draws.maybe(0.6):
            tell.say(draws.pick(LINKS))
        second(tell, *((hero, friend) if draws.maybe(0.6) else (friend, hero)))
    _ending(tell, hero, friend)
    return " ".join(tell.lines)
