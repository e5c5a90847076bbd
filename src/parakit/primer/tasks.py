"""Examples of tasks from the primer's world: opinions to classify, sentences to translate, texts that belong
together to embed, answers of which one is better.

Training rows are drawn from the training side of the hash, test rows from the other, through the same functions as
documents and suites: what a test row combines (an opinion of a subject, the words of a sentence, a fact and a
question) never occurs in training, nor does any opinion of it where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count, cycle
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.data.preferences.rankings import Ranking
from parakit.primer.config import PrimerConfig
from parakit.primer.documents import SKILLS
from parakit.primer.exercise import sentence
from parakit.primer.seeded_random import Draws
from parakit.primer.skills import facts, sentiment, translation
from parakit.primer.skills.negatives import unhelpful_answer, worse_answer

_NEUTRAL = tuple(
    fact
    for fact in facts.FACTS
    if fact.relation in ("home", "job", "kind", "colour", "owner", "pet", "landscape")
)  # no feeling in them, unlike what somebody likes
Drawn = TypeVar("Drawn")
RANKED_SHARE = 0.15  # of the preferences: three answers
_MAX_FRUITLESS_DRAWS = 20_000  # in a row, before the different rows are taken to be exhausted


def _classify(draws: Draws, held_out: bool) -> dict[str, Any]:
    """One opinion, alone, beside a fact that says nothing about it, or beside another of the same feeling."""
    _, opinion, label = sentiment.opinion(draws, held_out)
    sentences = [sentence(opinion)]
    kind = draws.below(10)
    if kind < 4:
        sentences.append(facts.state(draws, draws.pick(_NEUTRAL)))
    elif kind < 6:
        other = sentiment.opinion(draws, held_out)
        while other[2] != label or other[1] == opinion:
            other = sentiment.opinion(draws, held_out)
        sentences.append(sentence(other[1]))
    return {"text": " ".join(draws.shuffled(sentences)), "label": label}


def _translate(draws: Draws, held_out: bool) -> dict[str, Any]:
    """A phrase or sentence in English and in French; in training also single words."""
    alone = not held_out and draws.maybe(0.1)
    _, english, french = translation.words(draws) if alone else translation.sentences(draws, held_out)
    return {"source": sentence(english), "target": sentence(french)}


def _embed(draws: Draws, held_out: bool) -> dict[str, Any]:
    """A question about a fact and its answer, or the same sentence in two languages."""
    if draws.maybe(0.5):
        exercise = facts.draw(draws, held_out)
        return {"text": exercise.question, "positive": exercise.answer}
    row = _translate(draws, held_out)
    return {"text": row["source"], "positive": row["target"]}


_DRAWN: dict[str, Callable[[Draws, bool], dict[str, Any]]] = {
    "classify": _classify,
    "translate": _translate,
    "embed": _embed,
}


def examples(config: PrimerConfig, task: str, held_out: bool = False) -> Iterator[dict[str, Any]]:
    """`config.n_examples` different rows of a task to train on, or with `held_out` `config.n_test_examples` to test
    on; a larger number continues the same stream.
    """
    if task not in _DRAWN:
        raise UserError(
            f"the primer has no examples of {task}", f"it has {', '.join(_DRAWN)}; give files for others"
        )
    draws = Draws(config.seed, "examples", task, "test" if held_out else "train")
    n = config.n_test_examples if held_out else config.n_examples
    rows = (_DRAWN[task](draws, held_out) for _ in count())
    return _different(rows, n, lambda row: tuple(row.values()), f"examples of {task}")


def preferences(config: PrimerConfig, held_out: bool = False) -> Iterator[Ranking]:
    """`config.n_examples` different rankings to learn from, or with `held_out` `config.n_test_examples` to test on; a
    larger number continues the same stream.

    Every skill is asked equally often. Most are pairs of a good answer and a worse one; in some an answer that says
    nothing stands between the two.
    """
    draws = Draws(config.seed, "preferences", "test" if held_out else "train")
    n = config.n_test_examples if held_out else config.n_examples
    return _different(
        (_ranking(draws, skill, held_out) for skill in cycle(SKILLS.values())),
        n,
        lambda ranking: ranking.digest,
        "preferences",
    )


def _ranking(draws: Draws, skill: Any, held_out: bool) -> Ranking:
    exercise = skill.draw(draws, held_out)
    setting = (Message("system", exercise.system),) if exercise.system else ()
    answers = [exercise.answer, worse_answer(draws, exercise)]
    if exercise.label != "unknowable" and draws.maybe(RANKED_SHARE):
        answers.insert(1, unhelpful_answer(draws))
    return Ranking((*setting, Message("user", exercise.question)), tuple(answers))


def _different(
    drawn: Iterable[Drawn], n: int, key_of: Callable[[Drawn], Hashable], what: str
) -> Iterator[Drawn]:
    """`n` members of an endless stream of which no two have the same key."""
    met: set[Hashable] = set()
    fruitless = 0
    for one in drawn:
        if len(met) == n:
            return
        key = key_of(one)
        fruitless = fruitless + 1 if key in met else 0
        if fruitless == _MAX_FRUITLESS_DRAWS:
            raise UserError(
                f"the primer has only {len(met)} different {what}, and {n} were asked for", "ask for fewer"
            )
        if key not in met:
            met.add(key)
            yield one
