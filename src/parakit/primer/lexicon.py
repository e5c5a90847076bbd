"""The primer's French: about eighty words with their genders, and the noun phrases made of them.

English and French words map one to one, so a sentence has exactly one translation. Singular and present tense only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Noun:
    english: str
    french: str
    feminine: bool


@dataclass(frozen=True, slots=True)
class Adjective:
    english: str
    masculine: str
    feminine: str
    before: bool = False  # precedes its noun, as "petit" does


ANIMATE = (
    Noun("cat", "chat", False),
    Noun("dog", "chien", False),
    Noun("horse", "cheval", False),
    Noun("rabbit", "lapin", False),
    Noun("bird", "oiseau", False),
    Noun("cow", "vache", True),
    Noun("mouse", "souris", True),
    Noun("boy", "garçon", False),
    Noun("girl", "fille", True),
    Noun("doctor", "médecin", False),
    Noun("queen", "reine", True),
    Noun("king", "roi", False),
)
THINGS = (
    Noun("house", "maison", True),
    Noun("book", "livre", False),
    Noun("apple", "pomme", True),
    Noun("cake", "gâteau", False),
    Noun("flower", "fleur", True),
    Noun("hat", "chapeau", False),
    Noun("key", "clé", True),
    Noun("table", "table", True),
    Noun("car", "voiture", True),
    Noun("boat", "bateau", False),
    Noun("tree", "arbre", False),
    Noun("ball", "balle", True),
    Noun("garden", "jardin", False),
    Noun("town", "ville", True),
)
NOUNS = ANIMATE + THINGS

ADJECTIVES = (
    Adjective("black", "noir", "noire"),
    Adjective("white", "blanc", "blanche"),
    Adjective("green", "vert", "verte"),
    Adjective("grey", "gris", "grise"),
    Adjective("red", "rouge", "rouge"),
    Adjective("strong", "fort", "forte"),
    Adjective("heavy", "lourd", "lourde"),
    Adjective("clean", "propre", "propre"),
    Adjective("small", "petit", "petite", before=True),
    Adjective("big", "grand", "grande", before=True),
    Adjective("pretty", "joli", "jolie", before=True),
)
INTRANSITIVE = (
    ("sleeps", "dort"),
    ("sings", "chante"),
    ("runs", "court"),
    ("waits", "attend"),
    ("plays", "joue"),
    ("works", "travaille"),
    ("eats", "mange"),
    ("dances", "danse"),
)
TRANSITIVE = (
    ("sees", "voit"),
    ("likes", "aime"),
    ("finds", "trouve"),
    ("carries", "porte"),
    ("wants", "veut"),
    ("looks for", "cherche"),
)
I_VERBS = (("I see", "je vois"), ("I like", "j'aime"), ("I find", "je trouve"), ("I want", "je veux"))
PLACES = (
    ("in", "dans", Noun("garden", "jardin", False)),
    ("in", "dans", Noun("house", "maison", True)),
    ("in", "dans", Noun("town", "ville", True)),
    ("under", "sous", Noun("tree", "arbre", False)),
    ("under", "sous", Noun("table", "table", True)),
    ("behind", "derrière", Noun("car", "voiture", True)),
    ("behind", "derrière", Noun("tree", "arbre", False)),
)
GREETINGS = (
    ("hello", "bonjour"),
    ("thank you", "merci"),
    ("yes", "oui"),
    ("no", "non"),
    ("good night", "bonne nuit"),
    ("goodbye", "au revoir"),
)
DETERMINERS = ("the", "a", "my")


def _before_vowel(word: str) -> bool:
    return word[0] in "aeiouéè"


def french_determiner(determiner: str, noun: Noun, next_word: str) -> str:
    """The article or possessive with its space, or "l'" without one."""
    if determiner == "the":
        if _before_vowel(next_word):
            return "l'"
        return "la " if noun.feminine else "le "
    if determiner == "a":
        return "une " if noun.feminine else "un "
    return "ma " if noun.feminine and not _before_vowel(next_word) else "mon "


def noun_phrase(determiner: str, noun: Noun, adjective: Adjective | None) -> tuple[str, str]:
    """("the black cat", "le chat noir")."""
    if adjective is None:
        english, words = noun.english, [noun.french]
    else:
        form = adjective.feminine if noun.feminine else adjective.masculine
        english = f"{adjective.english} {noun.english}"
        words = [form, noun.french] if adjective.before else [noun.french, form]
    article = "an" if determiner == "a" and english[0] in "aeiou" else determiner
    return f"{article} {english}", french_determiner(determiner, noun, words[0]) + " ".join(words)
