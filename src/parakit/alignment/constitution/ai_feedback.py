"""AI preferences by principle (Bai et al. 2022, section 4): of two answers the critic says which is better.

Both orders are asked and their probabilities averaged, so that a liking for "A" cancels out. Pairs whose halves are
equal, verdicts that cannot be understood, and those too close to call are counted by reason and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.alignment.chat_models.chat_model import ChatModel
from parakit.alignment.constitution.principles import PrincipleConfig
from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Message
from parakit.primer.critique_prompts import FIRST, SECOND, comparison_prompt

MARGIN = 0.2  # how far from an even verdict a preference must be
PREFERRED = "preferred"
UNPARSEABLE = "verdict not understood"
SKIPPED = ("equal answers", UNPARSEABLE, "too close")


@dataclass(frozen=True)
class ResponsePair:
    """Two answers of one model to the same question."""

    id: str
    question: str
    first: str
    second: str


def compare_responses(
    critic: ChatModel,
    principles: Sequence[PrincipleConfig],
    pairs: Sequence[ResponsePair],
    *,
    seed: int = 0,
    margin: float = MARGIN,
) -> list[dict[str, Any]]:
    """For each pair a row: `principle`, `outcome`, and where that is `preferred`, `chosen`, `rejected` and `share`,
    the probability that the critic gives the chosen one.
    """
    drawn = [principles[int(rng(seed, "preference", one.id).integers(len(principles)))] for one in pairs]
    rows: list[dict[str, Any]] = [{"principle": principle.id} for principle in drawn]
    asked = [i for i, one in enumerate(pairs) if one.first.strip() != one.second.strip()]
    prompts = []
    for i in asked:
        one = pairs[i]
        for first, second in ((one.first, one.second), (one.second, one.first)):
            text = comparison_prompt(one.question, first, second, drawn[i].preference)
            prompts.append((Message("user", text),))
    verdicts = critic.score_choices(prompts, (FIRST, SECOND)) if prompts else []
    shares: dict[int, float | None] = {}
    for place, i in enumerate(asked):
        there, back = verdicts[2 * place], verdicts[2 * place + 1]
        shares[i] = None if there is None or back is None else (there[0] + back[1]) / 2
    for i, (row, one) in enumerate(zip(rows, pairs, strict=True)):
        row |= _preference(one, shares[i], margin) if i in shares else {"outcome": "equal answers"}
    return rows


def _preference(pair: ResponsePair, share: float | None, margin: float) -> dict[str, Any]:
    """`share`: the probability of the first answer."""
    if share is None:
        return {"outcome": UNPARSEABLE}
    if abs(share - 0.5) < margin:
        return {"outcome": "too close", "share": share}
    chosen, rejected = (pair.first, pair.second) if share > 0.5 else (pair.second, pair.first)
    return {"outcome": PREFERRED, "chosen": chosen, "rejected": rejected, "share": max(share, 1 - share)}


def check_valid_comparisons(found: Mapping[str, int], critic: str, max_nonsense: float) -> None:
    """`UserError` where too many verdicts could not be understood, or no preference is left."""
    asked = sum(n for outcome, n in found.items() if outcome != "equal answers")
    if found.get(UNPARSEABLE, 0) > max_nonsense * asked:
        raise UserError(
            f"{found[UNPARSEABLE]} of {asked} verdicts by {critic} say neither {FIRST} nor {SECOND}, more than"
            f" max_nonsense={max_nonsense:g} of them",
            "use a critic that can compare (critic), teach it first (n_lessons), or allow more",
        )
    if not found.get(PREFERRED):
        told = ", ".join(f"{n} {outcome}" for outcome, n in found.items())
        raise UserError(
            f"no preferences: {told or 'no pairs'}", "sample more answers, or at a higher temperature"
        )
