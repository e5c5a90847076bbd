"""Labels of texts, labels of words, scores of texts.

Shapes: N texts, B of them in a batch, T tokens, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import (
    EncodedInput,
    Text,
    batches,
    check_length,
    context_window,
    encode_texts,
)
from parakit.model.heads import Classifier
from parakit.model.precision import at_least_float32
from parakit.tokens.config import TooLong
from parakit.tokens.examples.encoding import word_numbers
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template, truncate_pair
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classification:
    """The probability of each label of a text or word."""

    labels: tuple[str, ...]
    values: tuple[float, ...]

    @cached_property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[max(range(len(self.labels)), key=lambda i: self.values[i])]

    @property
    def probability(self) -> float:
        """Of the likeliest label."""
        return max(self.values)

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of every label."""
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

    Raises `UserError` for a model that labels no texts, and for a text over its `max_seq_len` unless
    `too_long="truncate"`.
    """
    require_capability(model, "classify")
    inputs = encode_texts(tokenizer, texts, model.config, too_long)
    scores = label_scores(model, inputs, micro_batch_size)
    return [Classification(model.classes.labels, tuple(row.softmax(-1).tolist())) for row in scores]


@dataclass(frozen=True)
class LabelSet:
    """The probability of each label of a text, independently of the others, and the labels from the threshold on."""

    probabilities: dict[str, float]
    labels: tuple[str, ...]


def multi_label(
    model: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    threshold: float = 0.5,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[LabelSet]:
    """The labels of each text, or pair of texts, whose probability is `threshold` or more; errors as for `classify`."""
    require_capability(model, "multi_label")
    inputs, names = encode_texts(tokenizer, texts, model.config, too_long), model.classes.labels
    found = []
    for row in label_scores(model, inputs, micro_batch_size):
        probabilities = dict(zip(names, row.sigmoid().tolist(), strict=True))
        found.append(LabelSet(probabilities, tuple(n for n, p in probabilities.items() if p >= threshold)))
    return found


def regress(
    model: Classifier,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[float]:
    """A score for each text, or pair of texts (a cross-encoder's query and document); errors as for `classify`."""
    require_capability(model, "regress")
    inputs = encode_texts(tokenizer, texts, model.config, too_long)
    rows = label_scores(model, inputs, micro_batch_size)
    return [float(row[0].sigmoid() if model.classes.sigmoid else row[0]) for row in rows]


def tag(
    model: Classifier,
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    *,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[list[Classification | None]]:
    """A label for each word of each sentence: that of the word's first token.

    None for a word without a token: the tokenizer drops it, or it was truncated. Errors as for `classify`.
    """
    require_capability(model, "tag")
    template, limit = special_tokens_template(tokenizer, model.config.family, 1), context_window(model.config)
    inputs, first_tokens = [], []
    for number, sentence in enumerate(sentences, 1):
        ids, words = word_numbers(tokenizer, sentence)  # per token the word that it begins, or -1
        n_kept = (
            truncate_pair([len(ids)], limit - template.n_tokens)[0] if too_long == "truncate" else len(ids)
        )
        token_ids = template.apply(np.array(ids[:n_kept], np.int64))
        check_length(len(token_ids), limit, number, len(sentences))
        inputs.append(EncodedInput(token_ids.tolist(), template.types(n_kept).tolist(), n_kept < len(ids)))
        begins = np.flatnonzero(words[:n_kept] >= 0)
        first_tokens.append({int(words[token]): int(token) + len(template.parts[0]) for token in begins})
    tagged: list[list[Classification | None]] = []
    for sentence, rows, first in zip(
        sentences, label_scores(model, inputs, micro_batch_size), first_tokens, strict=True
    ):
        probabilities = rows.softmax(-1).tolist()
        tagged.append(
            [
                Classification(model.classes.labels, tuple(probabilities[first[word]]))
                if word in first
                else None
                for word in range(len(sentence))
            ]
        )
    return tagged


@torch.inference_mode()
def label_scores(
    model: Classifier, inputs: Sequence[EncodedInput], micro_batch_size: int = MICRO_BATCH_SIZE
) -> list[torch.Tensor]:
    """The head's logits of each text, in float32 or better: (L,), or (T, L) from a tagger, without padding."""
    scores: list[torch.Tensor] = [torch.empty(0)] * len(inputs)
    with evaluation_mode(model):
        for batch in batches(model, inputs, model.config.n_token_types, micro_batch_size):
            logits = model(batch.input_ids, attention_mask=batch.attention_mask, **batch.context).cpu()
            logits = require_finite(at_least_float32(logits), "scores")
            for row, values in zip(batch.rows, logits, strict=True):
                scores[row] = values[: len(inputs[row].token_ids)] if values.ndim == 2 else values
    return scores
