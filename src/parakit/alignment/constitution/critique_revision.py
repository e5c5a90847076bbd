"""Critique and revision (Bai et al. 2022, section 3): a critic applies a principle to an answer and revises it.

Each round draws a principle that the answer has not been checked against. A critique with its principle's `pass_prefix`
leaves the answer unchanged. So does an invalid critique (empty, a copy of question or answer, neither yes nor no where
one is required) or revision (empty, unchanged, a copy of its instruction); these are counted by kind, and
`check_valid_fraction` ends a run with too many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.alignment.constitution.principles import PrincipleConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.primer.critique_prompts import critique_prompt

GOOD, REVISED, SKIPPED = "good", "revised", "skipped"
INVALID = (
    "empty critique",
    "copied critique",
    "undecided critique",
    "empty revision",
    "unchanged revision",
    "copied revision",
)
_MAX_CRITIQUE, _MAX_REVISION = 60, 80  # tokens


@dataclass(frozen=True)
class Response:
    """A question and the model's answer."""

    id: str
    question: str
    answer: str


def revise(
    critic: ChatModel,
    principles: Sequence[PrincipleConfig],
    responses: Sequence[Response],
    *,
    n_rounds: int = 1,
    seed: int = 0,
    max_new_tokens: int = _MAX_REVISION,
) -> list[JsonObject]:
    """For each response a row: `answer`, `final`, `rounds` with principle, critique, revision and outcome, and where the
    answer was revised `objections`, the principles whose critique does not accept `final`.

    Rows depend on the response and the seed only, not on the others in the call.
    """
    rows: list[JsonObject] = [
        {"question": one.question, "answer": one.answer, "final": one.answer, "rounds": []}
        for one in responses
    ]
    orders = [rng(seed, "principles", one.id).permutation(len(principles)) for one in responses]
    for number in range(min(n_rounds, len(principles))):
        drawn = [principles[order[number]] for order in orders]
        _round(critic, drawn, rows, max_new_tokens)
    _check_finals(critic, principles, [row for row in rows if row["final"] != row["answer"]])
    return rows


def _check_finals(
    critic: ChatModel, principles: Sequence[PrincipleConfig], rows: Sequence[JsonObject]
) -> None:
    """Add `objections` to revised answers: a revision for one principle may violate another."""
    for row in rows:
        row["objections"] = []
    for principle in principles:
        critiques = (
            critic.generate([_review(row, principle) for row in rows], max_new_tokens=_MAX_CRITIQUE)
            if rows
            else []
        )
        for row, critique in zip(rows, critiques, strict=True):
            if critique_outcome(critique, principle, row["question"], row["final"]) != GOOD:
                row["objections"].append(principle.id)


def is_trainable(row: Mapping[str, Any], n_principles: int) -> bool:
    """Whether no principle objects to the final answer. One that was never revised must have passed all of them."""
    if row["final"] != row["answer"]:
        return not row["objections"]
    return len(row["rounds"]) == n_principles and all(one["outcome"] == GOOD for one in row["rounds"])


def _round(
    critic: ChatModel,
    principles: Sequence[PrincipleConfig],
    rows: Sequence[JsonObject],
    max_new_tokens: int,
) -> None:
    """One critique of every answer, and a revision of each rejected one."""
    reviews = [_review(row, principle) for row, principle in zip(rows, principles, strict=True)]
    critiques = critic.generate(reviews, max_new_tokens=_MAX_CRITIQUE)
    rejected: list[int] = []
    for number, (row, principle, critique) in enumerate(zip(rows, principles, critiques, strict=True)):
        outcome = critique_outcome(critique, principle, row["question"], row["final"])
        row["rounds"].append({"principle": principle.id, "critique": critique, "outcome": outcome})
        if outcome == REVISED:
            rejected.append(number)
    prompts = [
        (*reviews[i], Message("assistant", critiques[i] or ""), Message("user", principles[i].revision))
        for i in rejected
    ]
    revisions = critic.generate(prompts, max_new_tokens=max_new_tokens) if prompts else []
    for i, revision in zip(rejected, revisions, strict=True):
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
    """`good`, `revised` (to be revised), `skipped` (over the context window), or a kind of `INVALID`."""
    if critique is None:
        return SKIPPED
    text = _normalize(critique)
    if not text or not any(char.isalpha() for char in text):
        return "empty critique"
    if _begins(text, _normalize(principle.pass_prefix)):
        return GOOD
    if text in (_normalize(question), _normalize(answer), _normalize(principle.critique)):
        return "copied critique"
    if principle.fail_prefix is not None and not _begins(text, _normalize(principle.fail_prefix)):
        return "undecided critique"
    return REVISED


def revision_outcome(revision: str | None, answer: str, instructions: Iterable[str]) -> str:
    """`revised`, `skipped`, or a kind of `INVALID`."""
    if revision is None:
        return SKIPPED
    text = _normalize(revision)
    if not text or not any(char.isalnum() for char in text):
        return "empty revision"
    if text == _normalize(answer):
        return "unchanged revision"
    return "copied revision" if text in map(_normalize, instructions) else REVISED


def outcomes(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How often each outcome occurred, over all rounds."""
    return Counter(one["outcome"] for row in rows for one in row["rounds"])


def check_valid_fraction(counts: Mapping[str, int], critic: str, max_invalid: float) -> None:
    """`UserError` where more than `max_invalid` of all rounds are invalid."""
    n, n_invalid = sum(counts.values()), sum(counts.get(name, 0) for name in INVALID)
    if n and n_invalid > max_invalid * n:
        kinds = ", ".join(f"{counts[name]} {name}" for name in INVALID if counts.get(name))
        raise UserError(
            f"{n_invalid} of {n} critiques by {critic} are invalid ({kinds}), more than"
            f" max_invalid={max_invalid:g} of them",
            "use a critic that can criticise (critic), tune it on critiques first (n_critique_examples), or allow more",
        )


def _normalize(text: str) -> str:
    return " ".join(text.lower().split()).strip("\"'. ")


def _begins(text: str, word: str) -> bool:
    return text.startswith(word) and not text[len(word) : len(word) + 1].isalnum()
