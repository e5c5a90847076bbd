"""The primer's documents (pre-training), conversations (fine-tuning) and suites (evaluation).

Each is a stream of its own and a pure function of the seed. Documents and conversations draw exercises from the
training side of the hash, suites from the held-out side, through the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.plain_tools import with_plain_tools
from parakit.data.documents import Document
from parakit.primer.config import PrimerConversationsConfig, PrimerDocumentsConfig, PrimerSuitesConfig
from parakit.primer.documents import SKILLS, draw_document, draw_exercise
from parakit.primer.exercise import Exercise, sentence
from parakit.primer.grading import SUITES, SuiteItem
from parakit.primer.seeded_random import Random
from parakit.primer.skills import audience, facts, small_talk
from parakit.primer.tool_tasks import generate_tool_conversations, generate_tool_tasks
from parakit.primer.tool_world import FUNCTIONS
from parakit.primer.world import PERSON

PARAKIT_SYSTEMS = (
    "You are Parakit, a small and friendly assistant.",
    "You are Parakit. Answer in short sentences.",
    "You are a helpful assistant called Parakit.",
)
DESCRIBED_EVERY = (
    8  # of the documents of tool tasks one in so many begins with the tools, three times as long as a task
)
_MAX_REPEATS = 20_000  # in a row, after which a suite counts as exhausted


def generate_documents(config: PrimerDocumentsConfig) -> Iterator[Document]:
    """`config.n_documents` documents, then those of tool tasks; a larger number continues the same stream."""
    random = Random(config.seed, "documents")
    for _ in range(config.n_documents):
        kind, text = draw_document(random)
        yield Document(text=text, source=f"primer/{kind}", n_bytes=len(text.encode()))
    # one task each: the fewer tokens before a call, the sooner a new model finds the names that it has to copy
    for number, (_, solved) in enumerate(generate_tool_tasks(config.n_tool_documents, config.seed)):
        turns = with_plain_tools(solved.messages, FUNCTIONS if number % DESCRIBED_EVERY == 0 else ())
        text = "\n".join(turn.content for turn in turns)
        yield Document(text=text, source="primer/tools", n_bytes=len(text.encode()))


def _turn(question: str, answer: str) -> tuple[Message, Message]:
    return Message("user", question), Message("assistant", answer)


def _exchange(exercise: Exercise) -> list[Message]:
    system = [Message("system", exercise.system)] if exercise.system else []
    return [*system, *_turn(exercise.question, exercise.answer)]


def _follow_up(random: Random) -> list[Message]:
    """A question about a person, then further ones that use a pronoun."""
    exercise = facts.draw(random)
    while exercise.combination[2] not in PERSON:
        exercise = facts.draw(random)
    _, relation, name, _ = exercise.combination
    others = [fact for fact in facts.FACTS_ABOUT[name] if fact.relation != relation]
    messages = _exchange(exercise)
    for fact in random.shuffled(others)[: random.between(1, 2)]:
        question = sentence(facts.fill(facts.FOLLOW_UPS[fact.relation], fact))
        messages += _turn(question, facts.fill(facts.ANSWERS[fact.relation], fact))
    return messages


def _role_play(random: Random) -> list[Message]:
    """Two questions to one role, which only the system prompt names."""
    exercise = audience.draw(random)
    while not exercise.system:
        exercise = audience.draw(random)
    messages = _exchange(exercise)
    again = audience.draw(random)
    while not again.system or again.label != exercise.label:
        again = audience.draw(random)
    return [*messages, *_turn(again.question, again.answer)]


def _chat(random: Random) -> list[Message]:
    """A greeting, questions and thanks; each part is optional."""
    messages = [Message("system", random.pick(PARAKIT_SYSTEMS))] if random.maybe(0.4) else []
    if random.maybe(0.6):
        messages += _turn(random.pick(small_talk.GREETINGS[0]), random.pick(small_talk.GREETINGS[1]))
    for _ in range(random.between(1, 2)):
        exercise = draw_exercise(random)
        while exercise.system:
            exercise = draw_exercise(random)
        messages += _exchange(exercise)
    if random.maybe(0.6):
        messages += _turn(random.pick(small_talk.THANKS[0]), random.pick(small_talk.THANKS[1]))
    if random.maybe(0.2):
        messages += _turn(random.pick(small_talk.FAREWELLS[0]), random.pick(small_talk.FAREWELLS[1]))
    return messages


def _small_talk(random: Random) -> list[Message]:
    messages: list[Message] = []
    for _ in range(random.between(1, 3)):
        messages += _turn(*small_talk.draw(random))
    return messages


def generate_conversations(config: PrimerConversationsConfig) -> Iterator[Conversation]:
    """`config.n_conversations` conversations. Of kind chat most are one question, the rest have several turns or are small
    talk; of kind tools each is a task with its calls.
    """
    if config.kind == "tools":
        yield from generate_tool_conversations(config.n_conversations, config.max_tasks, config.seed)
        return
    random = Random(config.seed, "conversations")
    kinds = (lambda d: _exchange(draw_exercise(d)), _chat, _follow_up, _role_play, _small_talk)
    edges = (0.74, 0.86, 0.90, 0.92, 1.0)
    for _ in range(config.n_conversations):
        yield Conversation(tuple(random.pick_weighted(kinds, edges)(random)))


def _suite(config: PrimerSuitesConfig, name: str) -> list[SuiteItem]:
    skill, n_items = SKILLS[name], config.n_suite_items
    random = Random(config.seed, "suite", name)
    quota = -(-n_items // len(skill.LABELS)) if skill.LABELS else n_items
    counts: Counter[str] = Counter()
    items: dict[tuple[Message, ...], SuiteItem] = {}
    n_repeats = 0
    while n_repeats < _MAX_REPEATS:
        if len(items) == n_items:
            return list(items.values())
        n_repeats += 1
        exercise = skill.draw(random, held_out=True)
        messages = tuple(_exchange(exercise)[:-1])
        if messages in items or (skill.LABELS and counts[exercise.label] >= quota):
            continue
        n_repeats = 0
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
        f"lower n_suite_items to {len(items)}",
    )


def generate_suites(config: PrimerSuitesConfig) -> dict[str, list[SuiteItem]]:
    """The eight suites, each of `config.n_suite_items` different questions, with balanced classes."""
    return {name: _suite(config, name) for name in SUITES}
