"""From clauses to sentences: names or pronouns, cause and effect in several orders, direct speech.

A `Narrator` tracks the antecedent of the next pronoun and the sentences so far; the events come from `stories.py`.
"""

from __future__ import annotations

from parakit.primer.exercise import sentence
from parakit.primer.seeded_random import Random
from parakit.primer.world import Person

_STATEMENT_VERBS = ("said", "cried", "called")
_QUESTION_VERBS = ("asked", "said", "whispered")


class Narrator:
    """Turns clauses into sentences. `antecedent` is the person whom a pronoun would refer to."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.sentences: list[str] = []
        self.antecedent: Person | None = None

    def refer_to(self, person: Person) -> str:
        """The person's name, or with some probability a pronoun where it is unambiguous."""
        known = self.antecedent is person
        self.antecedent = person
        return person.subject if known and self.random.uniform() < 0.6 else person.name

    def add(self, text: str) -> None:
        """Add one sentence."""
        self.sentences.append(sentence(text))

    def then(self, text: str) -> None:
        """Add a later event."""
        kind = self.random.below(9)
        if kind < 4:
            text = f"{('then', 'after that,', 'soon', 'a little later')[kind]} {text}"
        last = self.sentences[-1]
        if kind == 4 and len(last) < 60 and last[-1] == "." and " and " not in last:
            self.sentences[-1] = f"{last[:-1]}, and then {text}."
        else:
            self.add(text)

    def because(self, cause: str, effect: str) -> None:
        """Add a cause and its effect, in one of eight forms."""
        kind = self.random.below(8)
        if kind == 0:
            self.add(f"because {cause}, {effect}")
        elif kind == 1:
            self.add(f"since {cause}, {effect}")
        elif kind == 2:
            self.add(f"as {cause}, {effect}")
        elif kind < 5:
            self.add(f"{cause}, so {effect}")
        elif kind == 5:
            self.add(cause)
            self.add(f"that is why {effect}")
        elif kind == 6:
            self.add(cause)
            self.add(f"for this reason {effect}")
        else:
            self.add(cause)
            self.add(effect)

    def when(self, first: str, second: str) -> None:
        """Add two simultaneous events."""
        self.add(f"{self.random.pick(('when', 'as soon as', 'the moment'))} {first}, {second}")

    def but(self, first: str, second: str) -> None:
        """Add a contrast."""
        kind = self.random.below(4)
        if kind == 0:
            self.add(f"although {first}, {second}")
        elif kind == 1:
            self.add(first)
            self.add(f"but {second}")
        else:
            self.add(f"{first}, but {second}")

    def quote(self, person: Person, words: str) -> None:
        """Add direct speech, with the speaker before or after it."""
        kind = self.random.below(4)
        verb = self.random.pick(_QUESTION_VERBS if words[-1] == "?" else _STATEMENT_VERBS)
        quoted = f'"{sentence(words)}"'
        if kind == 0:
            self.sentences.append(f"{person.name} {verb}: {quoted}")
        elif quoted[-2] in "?!":
            self.sentences.append(f"{quoted} {verb} {person.name}.")
        else:
            self.sentences.append(f'{quoted[:-2]}," {verb} {person.name}.')
        self.antecedent = person
