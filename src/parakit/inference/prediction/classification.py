"""Labels of texts, labels of words, scores of texts, each with probabilities where there are any.

Shapes: N texts, B of them in a batch, T tokens, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import (
    EncodedInput,
    Text,
    TooLong,
    batches,
    check_length,
    encode_texts,
    window,
)
from parakit.model.heads import Classifier
from parakit.tokens.examples.encoding import word_numbers
from parakit.tokens.tokenizer.special_tokens_template import cut_to_fit, frame_of
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classification:
    """The likeliest label, and the probability of each."""

    labels: tuple[str, ...]
    values: tuple[float, ...]

    @cached_property
    def label(self) -> str:
        """The likeliest."""
        return self.labels[max(range(len(self.labels)), key=lambda i: self.values[i])]

    @property
    def probability(self) -> float:
        """Of the likeliest label."""
        return max(self.values)

    @property
    def probabilities(self) -> dict[str, float]:
        """Of every label."""
        return dict(zip(self.labels, self.values, strict=True))


def classify(
    model: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[Classification]:
    """A label for each text, or pair of texts.

    A model that labels no texts is a `UserError`, and so is a text over its `max_seq_len` unless `too_long` says to
    cut it.
    """
    require_capability(model, "classify")
    readings = encode_texts(tokenizer, texts, model.config, too_long)
    scores = label_scores(model, readings, micro_batch_size)
    return [Classification(model.classes.labels, tuple(row.softmax(-1).tolist())) for row in scores]


def regress(
    model: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[float]:
    """A score for each text, or pair of texts; errors as for `classify`."""
    require_capability(model, "regress")
    readings = encode_texts(tokenizer, texts, model.config, too_long)
    return [float(row[0]) for row in label_scores(model, readings, micro_batch_size)]


def tag(
    model: Classifier,
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    *,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[list[Classification | None]]:
    """A label for each word of each sentence; a word's first token speaks for it.

    None for a word without a token: the tokenizer keeps nothing of it, or it was cut off. Errors as for `classify`.
    """
    require_capability(model, "tag")
    frame, limit = frame_of(tokenizer, model.config.family, 1), window(model.config)
    readings, places = [], []
    for number, sentence in enumerate(sentences, 1):
        ids, words = word_numbers(tokenizer, sentence)  # of each token, the word that it begins, or -1
        kept = cut_to_fit([len(ids)], limit - frame.n_ids)[0] if too_long == "truncate" else len(ids)
        token_ids = frame.around(np.array(ids[:kept], np.int64))
        check_length(len(token_ids), limit, number, len(sentences))
        readings.append(EncodedInput(token_ids.tolist(), frame.types(kept).tolist(), kept < len(ids)))
        begins = np.flatnonzero(words[:kept] >= 0)
        places.append({int(words[token]): int(token) + len(frame.parts[0]) for token in begins})
    found: list[list[Classification | None]] = []
    for sentence, rows, at in zip(
        sentences, label_scores(model, readings, micro_batch_size), places, strict=True
    ):
        probabilities = rows.softmax(-1).tolist()
        found.append(
            [
                Classification(model.classes.labels, tuple(probabilities[at[word]])) if word in at else None
                for word in range(len(sentence))
            ]
        )
    return found


@torch.inference_mode()
def label_scores(
    model: Classifier, readings: Sequence[EncodedInput], micro_batch_size: int = MICRO_BATCH_SIZE
) -> list[torch.Tensor]:
    """What the head says of each text, in float32 at least: (L,), or (T, L) from a tagger, padding left out."""
    scores: list[torch.Tensor] = [torch.empty(0)] * len(readings)
    with evaluation_mode(model):
        for one in batches(model, readings, model.config.n_token_types, micro_batch_size):
            found = model(one.input_ids, attention_mask=one.attention_mask, **one.context).cpu()
            found = found if found.dtype == torch.float64 else found.float()
            for row, values in zip(one.rows, found, strict=True):
                scores[row] = values[: len(readings[row].token_ids)] if values.ndim == 2 else values
    return scores
