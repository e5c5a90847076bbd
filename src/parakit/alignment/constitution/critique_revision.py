"""Critique and revision (Bai et al. 2022, section 3): a critic looks at an answer by a principle, and mends it.

Each round draws a principle that the answer has not been held against yet. A critique that begins as its principle's
`found_good` leaves the answer alone. What cannot be used is nonsense, named and counted, and leaves it alone too: a
critique that is empty, repeats question or answer, or says neither yes nor no where that was asked; a revision that
is empty, changes nothing, or repeats what it was told. Where nonsense is the rule, `check_sense` ends the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.alignment.chat_models.chat_model import ChatModel
from parakit.alignment.constitution.principles import PrincipleConfig
from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Message
from parakit.primer.critique_prompts import critique_prompt

GOOD, REVISED, KEPT = "good", "revised", "unasked"
NONSENSE = (
    "empty critique",
    "copied critique",
    "undecided critique",
    "empty revision",
    "unchanged revision",
    "copied revision",
)
_MAX_CRITIQUE, _MAX_REVISION = 60, 80  # tokens, where a critic is not told otherwise


@dataclass(frozen=True)
class Response:
    """A question as it was put to the model, and what it said."""

    id: str
    question: str
    answer: str


def revise(
    critic: ChatModel,
    principles: Sequence[PrincipleConfig],
    answered: Sequence[Response],
    *,
    n_rounds: int = 1,
    seed: int = 0,
    max_new_tokens: int = _MAX_REVISION,
) -> list[dict[str, Any]]:
    """For each answer a row: `answer` (the first), `final`, `rounds` with principle, critique, revision and outcome, and
    where the answer was revised `faults`, the principles under which the critic is not content with `final`.

    Rows depend on the item and the seed alone, not on who shares the call.
    """
    rows: list[dict[str, Any]] = [
        {"question": one.question, "answer": one.answer, "final": one.answer, "rounds": []}
        for one in answered
    ]
    orders = [rng(seed, "principles", one.id).permutation(len(principles)) for one in answered]
    for number in range(min(n_rounds, len(principles))):
        drawn = [principles[order[number]] for order in orders]
        _round(critic, drawn, rows, max_new_tokens)
    _check_finals(critic, principles, [row for row in rows if row["final"] != row["answer"]])
    return rows


def _check_finals(
    critic: ChatModel, principles: Sequence[PrincipleConfig], rows: Sequence[dict[str, Any]]
) -> None:
    """Note under `faults` by which principles the critic would mend a revised answer again: what one principle
    asked for, another may forbid.
    """
    for row in rows:
        row["faults"] = []
    for principle in principles:
        critiques = (
            critic.generate([_review(row, principle) for row in rows], max_new_tokens=_MAX_CRITIQUE)
            if rows
            else []
        )
        for row, critique in zip(rows, critiques, strict=True):
            if critique_outcome(critique, principle, row["question"], row["final"]) != GOOD:
                row["faults"].append(principle.id)


def is_trainable(row: Mapping[str, Any], n_principles: int) -> bool:
    """Whether an answer can be learned from: no principle objects to what became of it. One that was never revised
    must have been held against all of them.
    """
    if row["final"] != row["answer"]:
        return not row["faults"]
    return len(row["rounds"]) == n_principles and all(one["outcome"] == GOOD for one in row["rounds"])


def _round(
    critic: ChatModel,
    principles: Sequence[PrincipleConfig],
    rows: Sequence[dict[str, Any]],
    max_new_tokens: int,
) -> None:
    """One critique of every answer, and a revision of those that it found fault with."""
    reviews = [_review(row, principle) for row, principle in zip(rows, principles, strict=True)]
    critiques = critic.generate(reviews, max_new_tokens=_MAX_CRITIQUE)
    faulty: list[int] = []
    for number, (row, principle, critique) in enumerate(zip(rows, principles, critiques, strict=True)):
        outcome = critique_outcome(critique, principle, row["question"], row["final"])
        row["rounds"].append({"principle": principle.id, "critique": critique, "outcome": outcome})
        if outcome == REVISED:
            faulty.append(number)
    told = [
        (*reviews[i], Message("assistant", critiques[i] or ""), Message("user", principles[i].revision))
        for i in faulty
    ]
    revisions = critic.generate(told, max_new_tokens=max_new_tokens) if told else []
    for i, revision in zip(faulty, revisions, strict=True):
        row, last = rows[i], rows[i]["rounds"][-1]
        last["revision"] = revision
        last["outcome"] = revision_outcome(
            revision, row["final"], (critiques[i] or "", principles[i].revision)
        )
        if last["outcome"] == REVISED:
            row["final"] = revision


def _review(row: Mapping[str, Any], principle: PrincipleConfig) -> tuple[Message, ...]:
    return (Message("user", critique_prompt(row["question"], row["final"], principle.critique)),)


def critique_outcome(critique: str | None, principle: PrincipleConfig, question: str, answer: str) -> str:
    """`good`, `revised` (there is something to revise), `unasked` (over the context window), or a kind of nonsense."""
    if critique is None:
        return KEPT
    text = _plain(critique)
    if not text or not any(sign.isalpha() for sign in text):
        return "empty critique"
    if _begins(text, _plain(principle.found_good)):
        return GOOD
    if text in (_plain(question), _plain(answer), _plain(principle.critique)):
        return "copied critique"
    if principle.found_fault is not None and not _begins(text, _plain(principle.found_fault)):
        return "undecided critique"
    return REVISED


def revision_outcome(revision: str | None, answer: str, told: Iterable[str]) -> str:
    """`revised`, `unasked`, or a kind of nonsense."""
    if revision is None:
        return KEPT
    text = _plain(revision)
    if not text or not any(sign.isalnum() for sign in text):
        return "empty revision"
    if text == _plain(answer):
        return "unchanged revision"
    return "copied revision" if text in map(_plain, told) else REVISED


def outcomes(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How often each outcome occurred, over all rounds."""
    return Counter(one["outcome"] for row in rows for one in row["rounds"])


def check_valid_fraction(found: Mapping[str, int], critic: str, max_nonsense: float) -> None:
    """`UserError` where more than `max_nonsense` of all rounds came to nonsense."""
    n, n_nonsense = sum(found.values()), sum(found.get(name, 0) for name in NONSENSE)
    if n and n_nonsense > max_nonsense * n:
        kinds = ", ".join(f"{found[name]} {name}" for name in NONSENSE if found.get(name))
        raise UserError(
            f"{n_nonsense} of {n} critiques by {critic} are nonsense ({kinds}), more than"
            f" max_nonsense={max_nonsense:g} of them",
            "use a critic that can criticise (critic), teach it first (n_lessons), or allow more",
        )


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip("\"'. ")


def _begins(text: str, word: str) -> bool:
    return text.startswith(word) and not text[len(word) : len(word) + 1].isalnum()
