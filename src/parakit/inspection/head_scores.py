"""What kind each head is, by its attention on repeated random tokens.

On r_1 ... r_n r_1 ... r_n an induction head attends from the second r_i to r_{i+1}, the token after the earlier occurrence:
what a model needs to continue a repetition (Olsson et al. 2022, "In-context learning and induction heads"). It works with a
head of an earlier layer that attends to the previous token. Random tokens leave nothing but the repetition to attend to.

Shapes: B sequences, N random tokens of each, T = 2 N tokens and special ones, H heads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.common.progress import OnProgress
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.batches import check_length, context_window
from parakit.inspection.attention_weights import AttentionCall, attention_weights, why_no_weights
from parakit.inspection.capture import attention_calls
from parakit.inspection.inputs import HAS_VOCABULARY, ModelInput, run_batch
from parakit.inspection.sites import attention_modules
from parakit.model.heads import SequenceToSequence
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries

ROWS_AT_ONCE = 4
SCORES = {
    "induction": "to the token after the earlier occurrence of the same token",
    "previous": "to the token before",
    "duplicate": "to the earlier occurrence of the same token",
    "first": "to the first token",
}


@dataclass(frozen=True)
class HeadScores:
    """Mean attention of each kind of `SCORES`, from 0 to 1."""

    scores: dict[str, dict[str, np.ndarray]]
    """By kind, then by attention (`blocks.3.attention`): (H,) float64."""
    n_tokens: int
    n_sequences: int

    def best(self, kind: str, n: int = 5) -> list[tuple[str, int, float]]:
        """The heads with the highest score: attention, head, score."""
        every = [
            (name, head, float(value))
            for name, values in self.scores[kind].items()
            for head, value in enumerate(values)
        ]
        return sorted(every, key=lambda one: -one[2])[:n]


def head_scores(
    model: Model,
    *,
    n_tokens: int = 64,
    n_sequences: int = 8,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> HeadScores:
    """The scores on `n_sequences` sequences of `n_tokens` random ordinary tokens, each repeated once, between what the
    tokenizer puts around a text. Of an encoder-decoder both stacks read the same tokens; attention to a source is left out,
    and so is attention without weights. Raises `UserError` for sequences over the context window.
    """
    given, starts = _repeated_random(model, n_tokens, n_sequences, seed)
    return scores_of_repetitions(model.network, given, starts, n_tokens, on_progress)


def scores_of_repetitions(
    network: Any,
    given: Sequence[ModelInput],
    starts: Mapping[str, int],
    n_tokens: int,
    on_progress: OnProgress | None = None,
) -> HeadScores:
    """The scores on sequences whose `n_tokens` tokens are repeated once, from the positions `starts`: of `encoder.`, and of
    every other stack, the empty name.
    """
    scores: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in SCORES}

    def add(name: str, module: Any) -> Callable[[AttentionCall], None]:
        start = starts["encoder." if name.startswith("encoder.") else ""]

        def record(call: AttentionCall) -> None:
            weights = attention_weights(module, call)
            weights = weights[..., weights.shape[-1] - weights.shape[-2] :]  # without a trained prefix
            for kind, values in _kinds(weights, start, n_tokens).items():
                total = values.double().sum(0).cpu().numpy() / len(given)
                scores[kind][name] = scores[kind].get(name, 0) + total

        return record

    with torch.no_grad(), contextlib.ExitStack() as stack:
        for name, module in attention_modules(network).items():
            if not name.endswith("cross_attention") and why_no_weights(module) is None:
                stack.enter_context(attention_calls(module, add(name, module)))
        for first in range(0, len(given), ROWS_AT_ONCE):
            some = given[first : first + ROWS_AT_ONCE]
            run_batch(network, some, [0] if isinstance(network, HAS_VOCABULARY) else None)
            if on_progress is not None:
                on_progress(len(some))
    return HeadScores(scores, n_tokens, len(given))


def _kinds(weights: Tensor, start: int, n_tokens: int) -> dict[str, Tensor]:
    """Weights (B, H, T, T) of rows whose random tokens begin at `start` -> (B, H) of each kind, over the second half."""
    again = torch.arange(start + n_tokens, start + 2 * n_tokens - 1, device=weights.device)
    earlier = again - n_tokens
    return {
        "induction": weights[:, :, again, earlier + 1].mean(-1),
        "previous": weights[:, :, again, again - 1].mean(-1),
        "duplicate": weights[:, :, again, earlier].mean(-1),
        "first": weights[:, :, again, 0].mean(-1),
    }


def _repeated_random(
    model: Model, n_tokens: int, n_sequences: int, seed: int
) -> tuple[list[ModelInput], dict[str, int]]:
    """The sequences, and where their random tokens begin in each stack."""
    network: Any = model.network
    tokenizer = model.tokenizer
    is_pair = isinstance(network, SequenceToSequence)
    family = network.config.family
    before, after = text_boundaries(tokenizer, family)
    check_length(len(before) + 2 * n_tokens + len(after), context_window(network.config), 1, 1)
    ordinary = np.setdiff1d(np.array(sorted(tokenizer.vocabulary.values())), list(tokenizer.control_ids))
    rng = np.random.default_rng(seed)
    given = []
    for _ in range(n_sequences):
        tokens = rng.choice(ordinary, n_tokens, replace=len(ordinary) < n_tokens).tolist() * 2
        with_special = (*before, *tokens, *after)
        if is_pair:
            target = (network.config.decoder_start_id, *tokens)
            given.append(ModelInput(target, (), source_ids=with_special))
        else:
            given.append(ModelInput(with_special if family == "encoder" else (*before, *tokens), ()))
    return given, {"encoder.": len(before), "": 1 if is_pair else len(before)}
