"""Minimal pairs: how much likelier a model finds the first of two texts, read where they begin to differ.

A decoder's value is log p(good) - log p(bad) of what follows the shared beginning; an encoder's the same of the words that
differ, masked, between what both share; an encoder-decoder compares two targets of one source. A classifier compares its
first text's label in both, a reward model two rewards; of an embedder the value is the cosine of the two vectors.

Shapes: R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.inputs import ModelInput, encode_input, run_batch, token_texts
from parakit.model.heads import Classifier, Embedder, LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class ScoredInput:
    """A text as the model reads it, and the tokens whose log-probability counts."""

    given: ModelInput
    positions: tuple[int, ...] = ()
    """Rows of the logits that predict them."""
    target_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoredPair:
    """Two texts to compare."""

    good: ScoredInput
    bad: ScoredInput

    @property
    def deciding(self) -> int:
        """The token at which the two begin to differ: its logits predict the first difference. The last without logits."""
        return self.good.positions[0] if self.good.positions else len(self.good.given.tokens) - 1


def encode_pair(model: Model, good: str, bad: str, source: str | None = None) -> ScoredPair:
    """The pair as this model reads it; `source`: of an encoder-decoder, whose targets the two are. Raises `UserError` for
    texts that are the same to the model, or over its context window.
    """
    network, tokenizer = model.network, model.tokenizer
    if isinstance(network, SequenceToSequence):
        if source is None:
            raise UserError(
                "the two texts are targets of an encoder-decoder, and there is no source", "give one"
            )
        pair = _continuations(*(encode_input(model, source, text) for text in (good, bad)))
    elif source is not None:
        raise UserError("a source was given, and only an encoder-decoder reads one", "leave it out")
    elif isinstance(network, LanguageModel):
        pair = _continuations(*(_with_start(encode_input(model, text), tokenizer) for text in (good, bad)))
    elif isinstance(network, MaskedLanguageModel):
        pair = _masked(tokenizer, encode_input(model, good), encode_input(model, bad))
    else:
        pair = ScoredPair(ScoredInput(encode_input(model, good)), ScoredInput(encode_input(model, bad)))
    if pair.good == pair.bad:
        raise UserError(f"the two texts are the same to this model: {good!r}", "give two that differ")
    return pair


def _with_start(given: ModelInput, tokenizer: Tokenizer) -> ModelInput:
    """Behind BOS, or EOS without a BOS, so that the first word is predicted, too."""
    first = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    if first is None or given.token_ids[0] == first:
        return given
    start = token_texts(tokenizer, [first])
    return replace(given, token_ids=(first, *given.token_ids), tokens=(*start, *given.tokens))


def _continuations(good: ModelInput, bad: ModelInput) -> ScoredPair:
    n_shared = _n_shared(good.token_ids, bad.token_ids)
    n_shared = max(1, min(n_shared, len(good.token_ids) - 1, len(bad.token_ids) - 1))
    return ScoredPair(*(_continuation(one, n_shared) for one in (good, bad)))


def _continuation(given: ModelInput, n_before: int) -> ScoredInput:
    targets = given.token_ids[n_before:]
    return ScoredInput(given, tuple(range(n_before - 1, len(given.token_ids) - 1)), targets)


def _masked(tokenizer: Tokenizer, good: ModelInput, bad: ModelInput) -> ScoredPair:
    if tokenizer.mask_id is None:
        raise UserError(
            "the tokenizer has no mask token, and pairs of an encoder need one", "take another model"
        )
    n_before = _n_shared(good.token_ids, bad.token_ids)
    shortest = min(len(good.token_ids), len(bad.token_ids))
    n_after = min(_n_shared(good.token_ids[::-1], bad.token_ids[::-1]), shortest - n_before)
    mask = token_texts(tokenizer, [tokenizer.mask_id])
    scored = []
    for one in (good, bad):
        end = len(one.token_ids) - n_after
        n_masked = end - n_before
        ids = (*one.token_ids[:n_before], *(tokenizer.mask_id,) * n_masked, *one.token_ids[end:])
        tokens = (*one.tokens[:n_before], *mask * n_masked, *one.tokens[end:])
        masked = replace(one, token_ids=ids, tokens=tokens)
        scored.append(ScoredInput(masked, tuple(range(n_before, end)), one.token_ids[n_before:end]))
    if not (scored[0].positions and scored[1].positions):
        raise UserError(
            "one text of the pair is the other with words left out, and an encoder compares words in the same place",
            "give two texts that differ by a word",
        )
    return ScoredPair(*scored)


def _n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))


def pair_values(network: Any, pair: ScoredPair, n_rows: int = 1) -> Tensor:
    """The pair's value (R,), the same text in every row: what differs between rows are edits, if there are any."""
    good, bad = (
        run_batch(network, [side.given] * n_rows, side.positions or None) for side in (pair.good, pair.bad)
    )
    if pair.good.positions:
        return _log_probs(good, pair.good) - _log_probs(bad, pair.bad)
    if isinstance(network, Embedder):
        return functional.cosine_similarity(good, bad, dim=-1)
    if isinstance(network, Classifier):
        if network.classes.level != "sequence":
            raise UserError(
                "pairs compare whole texts, and this model labels words", "take a classifier of texts"
            )
        if network.classes.regression:
            return good[:, 0] - bad[:, 0]
        label = int(good[0].argmax())
        return good.log_softmax(-1)[:, label] - bad.log_softmax(-1)[:, label]
    return good.flatten() - bad.flatten()


def _log_probs(logits: Tensor, side: ScoredInput) -> Tensor:
    """(R, positions, V) -> (R,), in nats."""
    targets = torch.tensor(side.target_ids, device=logits.device).expand(len(logits), -1)
    return logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].sum(-1)
