"""The primer's examples of tasks (classify, translate, embed) and its preferences.

Training rows come from the training side of the hash and test rows from the held-out side, through the functions of
documents and suites: what a test row combines (an opinion of a subject, the words of a sentence, a fact and a question)
never occurs in training.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count, cycle
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Message
from parakit.data.preferences.rankings import Ranking
from parakit.primer.config import PrimerExamplesConfig
from parakit.primer.documents import SKILLS
from parakit.primer.exercise import sentence
from parakit.primer.seeded_random import Random
from parakit.primer.skills import facts, sentiment, translation
from parakit.primer.skills.negatives import negative_answer, unhelpful_answer

_NEUTRAL = tuple(
    fact
    for fact in facts.FACTS
    if fact.relation in ("home", "job", "kind", "colour", "owner", "pet", "landscape")
)  # without sentiment, unlike what somebody likes
Item = TypeVar("Item")
RANKED_SHARE = 0.15  # of the preferences have three answers
_MAX_REPEATS = 20_000  # in a row, after which the distinct rows count as exhausted


def _classify(random: Random, held_out: bool) -> JsonObject:
    """One opinion, alone, with a neutral fact, or with another opinion of the same sentiment."""
    _, opinion, label = sentiment.opinion(random, held_out)
    sentences = [sentence(opinion)]
    kind = random.below(10)
    if kind < 4:
        sentences.append(facts.state(random, random.pick(_NEUTRAL)))
    elif kind < 6:
        other = sentiment.opinion(random, held_out)
        while other[2] != label or other[1] == opinion:
            other = sentiment.opinion(random, held_out)
        sentences.append(sentence(other[1]))
    return {"text": " ".join(random.shuffled(sentences)), "label": label}


def _translate(random: Random, held_out: bool) -> JsonObject:
    """A phrase or sentence in English and in French; in training also single words."""
    alone = not held_out and random.maybe(0.1)
    _, english, french = translation.words(random) if alone else translation.sentences(random, held_out)
    return {"source": sentence(english), "target": sentence(french)}


def _embed(random: Random, held_out: bool) -> JsonObject:
    """A question about a fact and its answer, or the same sentence in two languages."""
    if random.maybe(0.5):
        exercise = facts.draw(random, held_out)
        return {"text": exercise.question, "positive": exercise.answer}
    row = _translate(random, held_out)
    return {"text": row["source"], "positive": row["target"]}


_SAMPLERS: dict[str, Callable[[Random, bool], JsonObject]] = {
    "classify": _classify,
    "translate": _translate,
    "embed": _embed,
}


def generate_examples(
    config: PrimerExamplesConfig, task: str, held_out: bool = False
) -> Iterator[JsonObject]:
    """`config.n_examples` distinct training rows of a task, or with `held_out` `config.n_test_examples` test rows; a
    larger number continues the same stream.
    """
    if task not in _SAMPLERS:
        raise UserError(
            f"the primer has no examples of {task}", f"it has {', '.join(_SAMPLERS)}; give files for others"
        )
    random = Random(config.seed, "examples", task, "test" if held_out else "train")
    n = config.n_test_examples if held_out else config.n_examples
    rows = (_SAMPLERS[task](random, held_out) for _ in count())
    return _distinct(rows, n, lambda row: tuple(row.values()), f"examples of {task}")


def generate_preferences(config: PrimerExamplesConfig, held_out: bool = False) -> Iterator[Ranking]:
    """`config.n_examples` distinct training rankings, or with `held_out` `config.n_test_examples` test rankings; a
    larger number continues the same stream.

    All skills are equally frequent. Most rankings are pairs of a good and a worse answer; some have an unhelpful answer
    between the two.
    """
    random = Random(config.seed, "preferences", "test" if held_out else "train")
    n = config.n_test_examples if held_out else config.n_examples
    return _distinct(
        (_ranking(random, skill, held_out) for skill in cycle(SKILLS.values())),
        n,
        lambda ranking: ranking.digest,
        "preferences",
    )


def _ranking(random: Random, skill: Any, held_out: bool) -> Ranking:
    exercise = skill.draw(random, held_out)
    system = (Message("system", exercise.system),) if exercise.system else ()
    answers = [exercise.answer, negative_answer(random, exercise)]
    if exercise.label != "unknowable" and random.maybe(RANKED_SHARE):
        answers.insert(1, unhelpful_answer(random))
    return Ranking((*system, Message("user", exercise.question)), tuple(answers))


def _distinct(items: Iterable[Item], n: int, key_of: Callable[[Item], Hashable], what: str) -> Iterator[Item]:
    """The first `n` items of an endless stream that have distinct keys."""
    seen: set[Hashable] = set()
    n_repeats = 0
    for item in items:
        if len(seen) == n:
            return
        key = key_of(item)
        n_repeats = n_repeats + 1 if key in seen else 0
        if n_repeats == _MAX_REPEATS:
            raise UserError(
                f"the primer has only {len(seen)} different {what}, and {n} were requested", "request fewer"
            )
        if key not in seen:
            seen.add(key)
            yield item
