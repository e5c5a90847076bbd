"""Masked words: the likeliest tokens at each masked position of a text.

Text can never forge a control token, so a mask is typed as a placeholder of the caller's choice, which is replaced by the
MASK id. White space before it is removed, for a token brings its own. Every position is predicted by itself, with the
other masks in place.

Shapes: B texts, T tokens, N masked positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import EncodedInput, batches, check_length
from parakit.model.heads import MaskedLanguageModel
from parakit.model.precision import at_least_float32
from parakit.tokens.tokenizer.special_tokens_template import add_special_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer

PLACEHOLDER = "[MASK]"


@dataclass(frozen=True)
class Candidate:
    """A predicted token for a masked position."""

    token_id: int
    text: str
    probability: float
    """Among all tokens of the vocabulary."""


@dataclass(frozen=True)
class MaskedPosition:
    """A masked position of a text and its candidates, the likeliest first."""

    position: int
    """Index among the text's tokens, special tokens included."""
    candidates: tuple[Candidate, ...]


@torch.inference_mode()
def fill_masks(
    model: MaskedLanguageModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    placeholder: str = PLACEHOLDER,
    n_candidates: int = 5,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[list[MaskedPosition]]:
    """The masked positions of each text, in order, with the `n_candidates` likeliest tokens each.

    Raises `UserError` for a model that fills no masks, a tokenizer without a MASK token, a text without `placeholder`,
    and a text over the model's `max_seq_len`.
    """
    require_capability(model, "fill_mask")
    inputs = [_encode_masked(tokenizer, text, placeholder, number) for number, text in enumerate(texts, 1)]
    for number, encoded in enumerate(inputs, 1):
        check_length(len(encoded.token_ids), model.config.max_seq_len, number, len(texts))
    filled: list[list[MaskedPosition]] = [[] for _ in texts]
    with evaluation_mode(model):
        for batch in batches(model, inputs, model.config.n_token_types, micro_batch_size):
            hidden = model.hidden(batch.input_ids, attention_mask=batch.attention_mask, **batch.context)
            masked = (batch.input_ids == tokenizer.mask_id).nonzero()  # (N, 2): row, position
            logits = require_finite(model.logits(hidden[masked[:, 0], masked[:, 1]]), "logits")  # (N, V)
            probabilities = at_least_float32(logits).softmax(-1)
            best = probabilities.topk(min(n_candidates, probabilities.shape[-1]), dim=-1)
            for (row, position), values, token_ids in zip(
                masked.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
            ):
                candidates = (
                    Candidate(token_id, _token_text(tokenizer, token_id), value)
                    for token_id, value in zip(token_ids, values, strict=True)
                )
                filled[batch.rows[row]].append(MaskedPosition(position, tuple(candidates)))
    return filled


def _encode_masked(tokenizer: Tokenizer, text: str, placeholder: str, number: int) -> EncodedInput:
    """A text's ids with the MASK id for every placeholder."""
    if tokenizer.mask_id is None:
        raise UserError(
            "this tokenizer has no MASK token", "use the tokenizer that the model was trained with"
        )
    pieces = text.split(placeholder) if placeholder else [text]
    if len(pieces) == 1:
        raise UserError(
            f"text {number} holds no placeholder {placeholder!r}",
            f"write {placeholder!r} where a token is masked",
        )
    token_ids: list[int] = []
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        token_ids += tokenizer.encode(piece if last else piece.rstrip())
        token_ids += [] if last else [tokenizer.mask_id]
    encoded = add_special_tokens(tokenizer, token_ids)
    return EncodedInput(encoded.token_ids, encoded.token_type_ids)


def _token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text, or as the vocabulary writes it where it has no text by itself."""
    if token_id >= tokenizer.vocab_size:
        return f"<{token_id}>"  # a model may have more rows than its tokenizer has tokens
    return tokenizer.decode([token_id]) or tokenizer.token(token_id)
