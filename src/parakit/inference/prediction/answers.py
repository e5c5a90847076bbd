"""Answers to questions: the passage of a context that a model points at.

A context that is too long is read in windows that overlap by half. The probability of a passage is that of its first token
times that of its last, each among the tokens of a window's context and the first special token, which stands for "no
answer" (Devlin et al. 2019, section 4.3).

Shapes: T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import EncodedInput, check_length, context_window
from parakit.inference.prediction.classification import label_scores
from parakit.model.heads import Classifier
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate, special_tokens_template
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_ANSWER_LEN = 30


@dataclass(frozen=True)
class Answer:
    """A passage of a context; the text is empty where the context has no answer."""

    text: str
    start: int
    """First character in the context; 0 without an answer."""
    end: int
    """The character after the last."""
    probability: float


@dataclass(frozen=True)
class _Window:
    """A question with a part of its context."""

    encoded: EncodedInput
    question: int
    first: int  # position in the row of the context's first token
    spans: list[tuple[int, int]]  # characters of each token of this part


def answer(
    model: Classifier,
    tokenizer: Tokenizer,
    questions: Sequence[tuple[str, str]],
    *,
    allow_none: bool = True,
    max_answer_len: int = MAX_ANSWER_LEN,
    too_long: TooLong = "truncate",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[Answer]:
    """The answer to each (question, context), at most `max_answer_len` tokens long. `allow_none`: where no answer is
    likelier than every passage, the answer is empty. Contexts of any length are read; a question has half of a window at
    most, and is shortened to that unless `too_long` is "refuse".

    Raises `UserError` for a model that answers no questions, and for a question that is refused.
    """
    require_capability(model, "answer")
    template, limit = special_tokens_template(tokenizer, model.config.family, 2), context_window(model.config)
    windows: list[_Window] = []
    for number, (question, context) in enumerate(questions):
        ids, room = tokenizer.encode(question), limit - template.n_tokens
        if too_long == "refuse" and len(ids) > room // 2:
            check_length(len(ids) + limit, limit, number + 1, len(questions))
        windows += _windows(tokenizer, template, number, ids[: room // 2], context, room)
    best = [Answer("", 0, 0, 0.0)] * len(questions)
    none = [1.0] * len(questions)
    scores = label_scores(model, [window.encoded for window in windows], micro_batch_size)
    for window, logits in zip(windows, scores, strict=True):
        found, p_none = _best_passage(window, logits, questions[window.question][1], max_answer_len)
        none[window.question] = min(none[window.question], p_none)
        if found.probability > best[window.question].probability:
            best[window.question] = found
    return [
        Answer("", 0, 0, p_none) if allow_none and p_none > one.probability else one
        for one, p_none in zip(best, none, strict=True)
    ]


def _windows(
    tokenizer: Tokenizer,
    template: SpecialTokensTemplate,
    number: int,
    question: list[int],
    context: str,
    room: int,
) -> Iterator[_Window]:
    """The question with every part of its context in turn."""
    ids, spans = tokenizer.reference_encoder.spans(context)
    size = room - len(question)
    first = len(template.parts[0]) + len(question) + len(template.parts[1])
    for begin in range(0, max(1, len(ids) - size + size // 2), max(1, size // 2)):
        part = ids[begin : begin + size]
        row = template.apply(np.array(question, np.int64), np.array(part, np.int64)).tolist()
        encoded = EncodedInput(row, template.types(len(question), len(part)).tolist())
        yield _Window(encoded, number, first, spans[begin : begin + size])
        if begin + size >= len(ids):
            return


def _best_passage(
    window: _Window, logits: torch.Tensor, context: str, max_answer_len: int
) -> tuple[Answer, float]:
    """The likeliest passage of a window, and the probability that it holds none; logits (T, 2)."""
    n = len(window.spans)
    places = [0, *range(window.first, window.first + n)]
    start, end = logits[places].double().softmax(0).T.numpy()  # (1 + n,) each
    if not n:
        return Answer("", 0, 0, 0.0), float(start[0] * end[0])
    both = np.triu(np.outer(start[1:], end[1:]))
    both = np.tril(both, max_answer_len - 1)
    first, last = np.unravel_index(int(both.argmax()), both.shape)
    begin, stop = window.spans[int(first)][0], window.spans[int(last)][1]
    text = context[begin:stop]
    begin += len(text) - len(text.lstrip())
    text = text.strip()
    return Answer(text, begin, begin + len(text), float(both.max())), float(start[0] * end[0])
