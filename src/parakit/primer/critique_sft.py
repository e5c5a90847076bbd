"""Conversations that teach the primer's model to criticise, to revise and to compare.

A model of a million parameters needs examples of each. One quotes a question and an answer, asks by one of the three
principles, and has the right critique, in plain words even for an encoded question ("Yes. It was asked how to steal a
car."). Only acts, templates and names of the training split occur. The quoted answers are right ones, and wrong ones of
the kinds that a small model gives: to another question, made of two, refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from parakit.data.conversations.conversation import Conversation, Message
from parakit.primer.attacks.attack import Attack, as_messages
from parakit.primer.attacks.suites import NOT_KNOWN, draw_attack
from parakit.primer.critique_prompts import (
    ADMIT,
    BETTER,
    DECLINE,
    FIRST,
    HARMFUL,
    HELP,
    INVENTED,
    NO,
    SECOND,
    UNHELPFUL,
    YES,
    comparison_prompt,
    critique_prompt,
)  # fmt: skip
from parakit.primer.documents import draw_exercise
from parakit.primer.seeded_random import Random
from parakit.primer.skills import facts, safety, small_talk

_HARMFUL = ("direct", "jailbreak", "encoding", "role_play", "injection")
_REQUESTS = {"harm": (HARMFUL, DECLINE), "honesty": (INVENTED, ADMIT), "help": (UNHELPFUL, HELP)}
# By wanted behaviour: the principle that another answer violates.
_PRINCIPLE = {"decline": "harm", "not_know": "honesty", "answer": "help"}

# By principle: the kind of question and whether the answer is right, and the cumulative probability. The hardest for a
# critic are answers that violate another principle: a refusal where it is right, help where it is.
_CASES = {
    "harm": (
        (("harmful", False), ("harmful", True), ("over_refusal", True), ("over_refusal", False), ("made_up", False),
         ("fact", True)),
        (0.40, 0.60, 0.85, 0.90, 0.95, 1.0),
    ),
    "honesty": (
        (("made_up", False), ("made_up", True), ("fact", True), ("harmful", True), ("harmful", False),
         ("over_refusal", True)),
        (0.40, 0.55, 0.75, 0.85, 0.93, 1.0),
    ),
    "help": (
        (("over_refusal", False), ("fact", False), ("harmful", True), ("made_up", True), ("over_refusal", True),
         ("harmful", False), ("made_up", False)),
        (0.25, 0.40, 0.65, 0.80, 0.90, 0.95, 1.0),
    ),
}  # fmt: skip


def critique_conversations(n_conversations: int, seed: int = 0) -> Iterator[Conversation]:
    """`n_conversations` conversations; more of them continue the same sequence."""
    random = Random(seed, "critique lessons")
    for _ in range(n_conversations):
        make = _comparison if random.maybe(0.2) else _critique
        yield Conversation(tuple(make(random)))


def _draw_attack(random: Random, kind: str) -> Attack:
    """A question: harmful, about the unknown, harmless, or about a fact."""
    if kind == "harmful":
        attack = draw_attack(random, random.pick(_HARMFUL), held_out=False)
        while attack.wanted != "decline":
            attack = draw_attack(random, "injection", held_out=False)
        return attack
    if kind == "fact":
        exercise = facts.draw(random)
        return Attack("facts", "fact", as_messages(exercise.question), "answer", answer=exercise.answer)
    return draw_attack(random, kind, held_out=False)


def _critique(random: Random) -> Iterator[Message]:
    """A question, an answer and a critique by one principle; a revised answer where the critique rejects it."""
    principle = random.pick(tuple(_CASES))
    kind, is_right = random.pick_weighted(*_CASES[principle])
    attack = _draw_attack(random, kind)
    answer = attack.answer if is_right else _wrong_answer(random, attack)
    request, rewrite = _REQUESTS[principle]
    rejects = not is_right and _PRINCIPLE[attack.wanted] == principle
    yield Message("user", critique_prompt(attack.question, answer, request))
    yield Message("assistant", f"{YES if rejects else NO}. {_reason(attack)}")
    if rejects:
        yield Message("user", rewrite)
        yield Message("assistant", attack.answer)


def _comparison(random: Random) -> Iterator[Message]:
    """Two answers to one question, in either order; by each principle the right one is better."""
    attack = _draw_attack(random, random.pick(("harmful", "made_up", "over_refusal", "fact")))
    answers, right = (attack.answer, _wrong_answer(random, attack)), FIRST
    if random.maybe(0.5):
        answers, right = (answers[1], answers[0]), SECOND
    request = BETTER[_PRINCIPLE[attack.wanted] if random.maybe(0.7) else random.pick(tuple(BETTER))]
    yield Message("user", comparison_prompt(attack.question, *answers, request))
    yield Message("assistant", right)


def _reason(attack: Attack) -> str:
    """What the question was about, in plain words."""
    if attack.wanted == "decline":
        return f"It was asked how to {attack.act}."
    if attack.wanted == "not_know":
        return "That name is not known."
    return f"It is harmless to {attack.act}." if attack.act else "That is known."


def _wrong_answer(random: Random, attack: Attack) -> str:
    """A wrong answer: a refusal where answering is right, else any other answer."""
    if attack.wanted == "answer":
        refusal = random.pick(safety.REFUSALS).format(random.pick(tuple(safety.HARMFUL.values()))[1])
        return random.pick((refusal, refusal, NOT_KNOWN, random.pick(safety.UNKNOWN_ANSWERS)))
    kind = random.below(6)
    if kind == 0 and attack.act:
        how = random.pick(safety.LOOK_ALIKES)[2]
        return f"To {attack.act.replace('my ', 'your ')}, {how}."
    if kind == 1:
        return small_talk.draw(random)[1]
    if kind == 2:
        return facts.draw(random).answer
    if kind == 3:
        return draw_attack(random, "over_refusal", held_out=False).answer
    answer = draw_exercise(random).answer
    while "can't help" in answer or "don't know" in answer:
        answer = draw_exercise(random).answer
    return answer
