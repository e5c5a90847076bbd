"""Log-likelihoods of whole texts, each preceded by what begins a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.evaluation.measures.measure import MeasureInput
from parakit.evaluation.results import Item
from parakit.inference.capabilities import require_capability
from parakit.inference.engine.scoring import Continuation, score_continuations
from parakit.inference.generation.completion import prompt_ids
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def text_continuation(tokenizer: Tokenizer, text: str) -> Continuation:
    """A text's ids after BOS, or EOS where the tokenizer has no BOS, so that its first token counts too."""
    start = tokenizer.start_id
    if start is None:
        raise UserError("the tokenizer has neither BOS nor EOS", "a text needs one before its first token")
    ids = prompt_ids(tokenizer, text)
    return ([start], ids[1:] if ids[0] == start else ids)


def text_log_likelihoods(
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    advance: OnProgress | None = None,
) -> list[float]:
    """The log-probability of each text in nats, the sum over its tokens; equal texts, and what texts begin with, are
    computed once. `advance` is called with numbers of different texts.
    """
    require_capability(model, "log_likelihood")
    distinct = list(dict.fromkeys(texts))
    pairs = [text_continuation(tokenizer, text) for text in distinct]
    scores = score_continuations(model, pairs, advance=advance)
    found = {text: math.fsum(score.log_probs) for text, score in zip(distinct, scores, strict=True)}
    return [found[text] for text in texts]


class PairItem(NamedTuple):
    """Two texts that differ in one thing: their place in the data, the one of which it is measured whether it is the
    likelier, the other one, and the group that they count in.
    """

    id: str
    measured: str
    other: str
    group: str


def measure_pairs(
    given: MeasureInput, pairs: Sequence[PairItem], metric: str
) -> tuple[list[str], list[Item]]:
    """The texts of the pairs, and an item for each: `metric` is 1 where the measured text is the likelier one, `margin` is
    by how many nats.
    """
    texts = [text for pair in pairs for text in (pair.measured, pair.other)]
    values = text_log_likelihoods(given.model, given.tokenizer, texts, advance=given.advance)
    items = []
    for pair, measured, other in zip(pairs, values[::2], values[1::2], strict=True):
        scores = {metric: float(measured > other), "margin": measured - other}
        answer = pair.measured if measured > other else pair.other
        items.append(Item(pair.id, pair.other, pair.measured, answer, scores, pair.group))
    return texts, items
