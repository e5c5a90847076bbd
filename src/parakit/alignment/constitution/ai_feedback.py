"""Preferences by AI feedback (Bai et al. 2022, section 4): a critic chooses the better of two responses by a principle.

Both orders are scored and their probabilities averaged, which cancels a bias for "A". Equal responses, unparseable
verdicts and close calls are counted by outcome and excluded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parakit.alignment.constitution.principles import PrincipleConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.seeds import rng
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.primer.critique_prompts import FIRST, SECOND, comparison_prompt

MIN_MARGIN = 0.2  # of the probability from one half
PREFERRED = "preferred"
UNPARSEABLE = "unparseable verdict"


@dataclass(frozen=True)
class ResponsePair:
    """Two answers of one model to a question."""

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
    margin: float = MIN_MARGIN,
) -> list[JsonObject]:
    """For each pair a row: `principle`, `outcome`, and where that is `preferred`, `chosen`, `rejected` and `probability`,
    the critic's of the chosen one.
    """
    drawn = [principles[int(rng(seed, "preference", one.id).integers(len(principles)))] for one in pairs]
    rows: list[JsonObject] = [{"principle": principle.id} for principle in drawn]
    different = [i for i, one in enumerate(pairs) if one.first.strip() != one.second.strip()]
    prompts = []
    for i in different:
        one = pairs[i]
        for first, second in ((one.first, one.second), (one.second, one.first)):
            text = comparison_prompt(one.question, first, second, drawn[i].preference)
            prompts.append((Message("user", text),))
    verdicts = critic.score_choices(prompts, (FIRST, SECOND)) if prompts else []
    probabilities: dict[int, float | None] = {}
    for n, i in enumerate(different):
        forward, backward = verdicts[2 * n], verdicts[2 * n + 1]
        probabilities[i] = None if forward is None or backward is None else (forward[0] + backward[1]) / 2
    for i, (row, one) in enumerate(zip(rows, pairs, strict=True)):
        row |= (
            _preference(one, probabilities[i], margin) if i in probabilities else {"outcome": "equal answers"}
        )
    return rows


def _preference(pair: ResponsePair, probability: float | None, margin: float) -> JsonObject:
    """`probability`: of the first answer."""
    if probability is None:
        return {"outcome": UNPARSEABLE}
    if abs(probability - 0.5) < margin:
        return {"outcome": "too close", "probability": probability}
    chosen, rejected = (pair.first, pair.second) if probability > 0.5 else (pair.second, pair.first)
    return {
        "outcome": PREFERRED,
        "chosen": chosen,
        "rejected": rejected,
        "probability": max(probability, 1 - probability),
    }


def check_valid_comparisons(counts: Mapping[str, int], critic: str, max_invalid: float) -> None:
    """`UserError` where too many verdicts are unparseable, or no preference is left."""
    different = sum(n for outcome, n in counts.items() if outcome != "equal answers")
    if counts.get(UNPARSEABLE, 0) > max_invalid * different:
        raise UserError(
            f"{counts[UNPARSEABLE]} of {different} verdicts by {critic} say neither {FIRST} nor {SECOND}, more than"
            f" max_invalid={max_invalid:g} of them",
            "use a critic that can compare (critic), tune it on critiques first (n_critique_examples), or allow more",
        )
    if not counts.get(PREFERRED):
        reasons = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        raise UserError(
            f"no preferences: {reasons or 'no pairs'}", "sample more answers, or at a higher temperature"
        )
