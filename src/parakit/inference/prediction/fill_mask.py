"""Hidden words: the likeliest tokens at each masked place of a text.

Text can never forge a control token, so what is typed for a mask is a placeholder of the caller's choice; the mask's
id is put in its stead. White space before it goes with it, for a token brings its own. Every place is guessed by
itself, with the other masks still hidden.

Shapes: B texts, T tokens, N masked places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import EncodedInput, batches, check_length
from parakit.model.heads import MaskedLanguageModel
from parakit.tokens.tokenizer.special_tokens_template import frame_text
from parakit.tokens.tokenizer.tokenizer import Tokenizer

PLACEHOLDER = "[MASK]"


@dataclass(frozen=True)
class Candidate:
    """A token that may stand at a masked place."""

    token_id: int
    text: str
    probability: float
    """Among all tokens of the vocabulary."""


@dataclass(frozen=True)
class MaskedPosition:
    """A masked place of a text and what may stand there, the likeliest first."""

    position: int
    """Among the tokens that the model read, special tokens included."""
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
    """The masked places of each text, in their order, with the `n_candidates` likeliest tokens each.

    A `UserError`: a model that fills no masks, a tokenizer without a MASK token, a text without `placeholder`, a
    text over the model's `max_seq_len`.
    """
    require_capability(model, "fill masks")
    readings = [_masked(tokenizer, text, placeholder, number) for number, text in enumerate(texts, 1)]
    for number, reading in enumerate(readings, 1):
        check_length(len(reading.token_ids), model.config.max_seq_len, number, len(texts))
    found: list[list[MaskedPosition]] = [[] for _ in texts]
    with evaluation_mode(model):
        for one in batches(model, readings, model.config.n_token_types, micro_batch_size):
            hidden = model.hidden(one.input_ids, attention_mask=one.attention_mask, **one.context)
            places = (one.input_ids == tokenizer.mask_id).nonzero()  # (N, 2): row, position
            logits = model.logits(hidden[places[:, 0], places[:, 1]])  # (N, V)
            probabilities = (logits if logits.dtype == torch.float64 else logits.float()).softmax(-1)
            best = probabilities.topk(min(n_candidates, probabilities.shape[-1]), dim=-1)
            for (row, position), values, token_ids in zip(
                places.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
            ):
                candidates = (
                    Candidate(token_id, _shown(tokenizer, token_id), value)
                    for token_id, value in zip(token_ids, values, strict=True)
                )
                found[one.rows[row]].append(MaskedPosition(position, tuple(candidates)))
    return found


def _masked(tokenizer: Tokenizer, text: str, placeholder: str, number: int) -> EncodedInput:
    """A text's ids with the mask's id for every placeholder."""
    if tokenizer.mask_id is None:
        raise UserError(
            "this tokenizer has no MASK token", "use the tokenizer that the model was trained with"
        )
    pieces = text.split(placeholder) if placeholder else [text]
    if len(pieces) == 1:
        raise UserError(
            f"text {number} holds no placeholder {placeholder!r}",
            f"write {placeholder!r} where a token is hidden",
        )
    token_ids: list[int] = []
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        token_ids += tokenizer.encode(piece if last else piece.rstrip())
        token_ids += [] if last else [tokenizer.mask_id]
    framed = frame_text(tokenizer, token_ids)
    return EncodedInput(framed.token_ids, framed.token_type_ids)


def _shown(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text, or as the vocabulary writes it where it has none by itself."""
    if token_id >= tokenizer.vocab_size:
        return f"<{token_id}>"  # a model may have more rows than its tokenizer has tokens
    return tokenizer.decode([token_id]) or tokenizer.token(token_id)
