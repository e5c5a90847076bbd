"""From plain clauses to sentences: names or pronouns, causes and effects in many orders, speech.

The `Teller` knows whom a pronoun would mean now, and how the last sentence ended. It knows nothing of what
is told.
"""

from __future__ import annotations

from parakit.primer.exercise import sentence
from parakit.primer.seeded_random import Draws
from parakit.primer.world import Person

_SAID = ("said", "cried", "called")
_ASKED = ("asked", "said", "whispered")


class Teller:
    """Turns clauses into sentences. `who` is the one a pronoun would mean now."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.lines: list[str] = []
        self.who: Person | None = None

    def call(self, person: Person) -> str:
        """The person's name, or a pronoun where it is clear and the dice say so."""
        known = self.who is person
        self.who = person
        return person.subject if known and self.draws.fraction() < 0.6 else person.name

    def say(self, text: str) -> None:
        self.lines.append(sentence(text))

    def then(self, text: str) -> None:
        """One event after another."""
        kind = self.draws.below(9)
        if kind < 4:
            text = f"{('then', 'after that,', 'soon', 'a little later')[kind]} {text}"
        last = self.lines[-1]
        if kind == 4 and len(last) < 60 and last[-1] == "." and " and " not in last:
            self.lines[-1] = f"{last[:-1]}, and then {text}."
        else:
            self.say(text)

    def because(self, cause: str, effect: str) -> None:
        """A cause and what came of it, in one of eight orders."""
        kind = self.draws.below(8)
        if kind == 0:
            self.say(f"because {cause}, {effect}")
        elif kind == 1:
            self.say(f"since {cause}, {effect}")
        elif kind == 2:
            self.say(f"as {cause}, {effect}")
        elif kind < 5:
            self.say(f"{cause}, so {effect}")
        elif kind == 5:
            self.say(cause)
            self.say(f"that is why {effect}")
        elif kind == 6:
            self.say(cause)
            self.say(f"for this reason {effect}")
        else:
            self.say(cause)
            self.say(effect)

    def when(self, first: str, second: str) -> None:
        self.say(f"{self.draws.pick(('when', 'as soon as', 'the moment'))} {first}, {second}")

    def but(self, first: str, second: str) -> None:
        kind = self.draws.below(4)
        if kind == 0:
            self.say(f"although {first}, {second}")
        elif kind == 1:
            self.say(first)
            self.say(f"but {second}")
        else:
            self.say(f"{first}, but {second}")

    def speak(self, person: Person, words: str) -> None:
        """Somebody says something, with the speaker before or after it."""
        kind = self.draws.below(4)
        verb = self.draws.pick(_ASKED if words[-1] == "?" else _SAID)
        quoted = f'"{sentence(words)}"'
        if kind == 0:
            self.lines.append(f"{person.name} {verb}: {quoted}")
        elif quoted[-2] in "?!":
            self.lines.append(f"{quoted} {verb} {person.name}.")
        else:
            self.lines.append(f'{quoted[:-2]}," {verb} {person.name}.')
        self.who = person
