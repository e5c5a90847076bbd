"""What the primer hands out: documents to read, conversations to tune on, suites to measure with.

All three are streams of their own, each a pure function of the seed. Documents and conversations take
exercises from the training side of the hash, suites from the other, through the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.documents import Document
from parakit.primer.config import PrimerConfig
from parakit.primer.documents import SKILLS, any_document, any_exercise
from parakit.primer.exercise import Exercise, sentence
from parakit.primer.grading import SUITES, SuiteItem
from parakit.primer.seeded_random import Draws
from parakit.primer.skills import audience, facts, small_talk
from parakit.primer.world import PERSON

PARAKIT_SYSTEMS = (
    "You are Parakit, a small and friendly assistant.",
    "You are Parakit. Answer in short sentences.",
    "You are a helpful assistant called Parakit.",
)
_MAX_FRUITLESS_DRAWS = 20_000  # in a row, before a suite is taken to be exhausted


def documents(config: PrimerConfig) -> Iterator[Document]:
    """`config.n_documents` documents; a larger number continues the same stream."""
    draws = Draws(config.seed, "documents")
    for _ in range(config.n_documents):
        kind, text = any_document(draws)
        yield Document(text=text, source=f"primer/{kind}", n_bytes=len(text.encode()))


def _turn(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


def _ask(exercise: Exercise) -> list[Message]:
    setting = [Message("system", exercise.system)] if exercise.system else []
    return [*setting, *_turn(exercise.question, exercise.answer)]


def _follow_up(draws: Draws) -> list[Message]:
    """A fact about a person, then another one asked with a pronoun."""
    exercise = facts.draw(draws)
    while exercise.combination[2] not in PERSON:
        exercise = facts.draw(draws)
    _, relation, name, _ = exercise.combination
    others = [fact for fact in facts.FACTS_ABOUT[name] if fact.relation != relation]
    messages = _ask(exercise)
    for fact in draws.shuffled(others)[: draws.between(1, 2)]:
        question = sentence(facts.fill(facts.FOLLOW_UPS[fact.relation], fact))
        messages += _turn(question, facts.fill(facts.ANSWERS[fact.relation], fact))
    return messages


def _role_play(draws: Draws) -> list[Message]:
    """Two questions in one role, which only the system prompt names."""
    exercise = audience.draw(draws)
    while not exercise.system:
        exercise = audience.draw(draws)
    messages = _ask(exercise)
    again = audience.draw(draws)
    while not again.system or again.label != exercise.label:
        again = audience.draw(draws)
    return [*messages, *_turn(again.question, again.answer)]


def _chat(draws: Draws) -> list[Message]:
    """Greeting, questions and thanks, some left out."""
    messages = [Message("system", draws.pick(PARAKIT_SYSTEMS))] if draws.maybe(0.4) else []
    if draws.maybe(0.6):
        messages += _turn(draws.pick(small_talk.GREETINGS[0]), draws.pick(small_talk.GREETINGS[1]))
    for _ in range(draws.between(1, 2)):
        exercise = any_exercise(draws)
        while exercise.system:
            exercise = any_exercise(draws)
        messages += _ask(exercise)
    if draws.maybe(0.6):
        messages += _turn(draws.pick(small_talk.THANKS[0]), draws.pick(small_talk.THANKS[1]))
    if draws.maybe(0.2):
        messages += _turn(draws.pick(small_talk.FAREWELLS[0]), draws.pick(small_talk.FAREWELLS[1]))
    return messages


def _small_talk(draws: Draws) -> list[Message]:
    messages: list[Message] = []
    for _ in range(draws.between(1, 3)):
        messages += _turn(*small_talk.draw(draws))
    return messages


def conversations(config: PrimerConfig) -> Iterator[Conversation]:
    """`config.n_conversations` conversations; most are one question, the rest have several turns or are
    small talk.
    """
    draws = Draws(config.seed, "conversations")
    kinds = (lambda d: _ask(any_exercise(d)), _chat, _follow_up, _role_play, _small_talk)
    edges = (0.74, 0.86, 0.90, 0.92, 1.0)
    for _ in range(config.n_conversations):
        yield Conversation(tuple(draws.weighted(kinds, edges)(draws)))


def _suite(config: PrimerConfig, name: str) -> list[SuiteItem]:
    skill, n_items = SKILLS[name], config.n_suite_items
    draws = Draws(config.seed, "suite", name)
    quota = -(-n_items // len(skill.LABELS)) if skill.LABELS else n_items
    counts: Counter[str] = Counter()
    items: dict[tuple[Message, ...], SuiteItem] = {}
    fruitless = 0
    while fruitless < _MAX_FRUITLESS_DRAWS:
        if len(items) == n_items:
            return list(items.values())
        fruitless += 1
        exercise = skill.draw(draws, held_out=True)
        messages = tuple(_ask(exercise)[:-1])
        if messages in items or (skill.LABELS and counts[exercise.label] >= quota):
            continue
        fruitless = 0
        counts[exercise.label] += 1
        items[messages] = SuiteItem(
            suite=name,
            messages=messages,
            answer=exercise.answer,
            accept=exercise.accept,
            reject=exercise.reject,
            check=exercise.check,
            combination=exercise.combination,
        )
    raise UserError(
        f"the suite {name!r} has only {len(items)} different questions, fewer than n_suite_items={n_items}",
        "ask for fewer items",
    )


def suites(config: PrimerConfig) -> dict[str, list[SuiteItem]]:
    """The eight suites, each of `config.n_suite_items` different questions, its classes in equal parts."""
    return {name: _suite(config, name) for name in SUITES}
