"""How often a model is right in a behaviour, which heads carry it, and what its answers are without them.

Heads are chosen on one half of the pairs, by the first-order effect of ablating them, and everything is measured on the
other half: a choice and its test on the same pairs would flatter it. As many heads drawn at random from the others show what
ablating any does. Attention of the deciding token, whose logits decide first, is compared between both kinds of heads.

Shapes: N measured pairs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.inference.loaded_model import Model
from parakit.inspection.ablation import NetworkUnit, ablated, estimated_effects, head_sites
from parakit.inspection.attention import AttentionMaps, attention_maps
from parakit.inspection.attention_weights import why_no_weights
from parakit.inspection.behaviours.sentences import BehaviourPair
from parakit.inspection.inputs import HAS_VOCABULARY, ModelInput, encode_input, token_texts
from parakit.inspection.pairs import ScoredInput, ScoredPair, encode_pair, pair_values
from parakit.inspection.sites import attention_modules, layers
from parakit.model.heads import LanguageModel, SequenceToSequence
from parakit.tokens.tokenizer.tokenizer import Tokenizer

N_RANDOM = 5  # draws of as many random heads
N_SHOWN = 4


@dataclass(frozen=True)
class AttentionToWords:
    """Mean share of the deciding token's attention, over pairs and heads; None where the words are not known."""

    cue: float | None
    distractor: float | None


@dataclass(frozen=True)
class Example:
    """One pair: its tokens, the deciding one, and what it looks at most, in the mean of each kind of heads."""

    tokens: tuple[str, ...]
    deciding: int
    good: str
    bad: str
    value: float
    value_without: float
    carriers: tuple[tuple[str, float], ...]
    others: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class BehaviourResult:
    """One behaviour on one half of its pairs; the heads are from the other half."""

    behaviour: str
    heads: tuple[NetworkUnit, ...]
    values: np.ndarray  # (N,): above 0 where the right answer is likelier
    values_without: np.ndarray  # (N,): with the heads ablated
    values_random: np.ndarray  # (draws, N): with as many other heads
    carriers: AttentionToWords
    others: AttentionToWords
    example: Example


def measure_behaviour(
    model: Model,
    pairs: Sequence[BehaviourPair],
    *,
    n_heads: int = 5,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> BehaviourResult:
    """One behaviour's pairs. `n_heads`: how many heads count as carrying it, a quarter of all at most. `on_progress` is
    called with the number of pairs that were read. Raises `UserError` for a model without logits of tokens, and for fewer
    than four pairs.
    """
    network = model.network
    if not isinstance(network, HAS_VOCABULARY):
        raise UserError(
            "this model gives words no probabilities", "its vectors show the meaning of words: see senses"
        )
    if len(pairs) < 4:
        raise UserError(
            f"{len(pairs)} pairs: one half chooses heads, the other measures", "give four or more"
        )
    encoded = [encode_behaviour_pair(model, one) for one in pairs]
    chosen = [number // 2 % 2 == 0 for number in range(len(pairs))]  # both orders of a fact in one half
    total: dict[str, np.ndarray] = {}
    for pair, is_choosing in zip(encoded, chosen, strict=True):
        if is_choosing:
            for name, effect in estimated_effects(network, pair, head_sites(network)).items():
                total[name] = total.get(name, 0) + effect
            _advance(on_progress)
    heads = _most_negative(total, n_heads)
    draws = _random_heads(network, heads, np.random.default_rng(seed))
    rows = [[], list(heads), *draws]
    measured: list[np.ndarray] = []
    shares: list[dict[str, AttentionToWords]] = []
    kept = [
        (one, pair) for one, pair, is_choosing in zip(pairs, encoded, chosen, strict=True) if not is_choosing
    ]
    with torch.no_grad():
        for one, pair in kept:
            with ablated(network, rows):
                measured.append(pair_values(network, pair, len(rows)).double().cpu().numpy())
            shares.append(_attention_to_words(model, one, pair, heads))
            _advance(on_progress)
    values = np.stack(measured, 1)  # (rows, N)
    shown = int(np.argmax(values[0] - values[1]))  # where they matter most
    return BehaviourResult(
        behaviour=pairs[0].behaviour,
        heads=heads,
        values=values[0],
        values_without=values[1],
        values_random=values[2:],
        carriers=_mean_shares([one["carriers"] for one in shares]),
        others=_mean_shares([one["others"] for one in shares]),
        example=_example(model, *kept[shown], heads, values[:2, shown]),
    )


def readable_pairs(model: Model, pairs: Sequence[BehaviourPair]) -> list[BehaviourPair]:
    """The pairs that the model can read: not those over its context window, nor those that its tokenizer cannot tell apart."""
    found = []
    for one in pairs:
        with contextlib.suppress(UserError):
            encode_behaviour_pair(model, one)
            found.append(one)
    return found


def _advance(on_progress: OnProgress | None) -> None:
    if on_progress is not None:
        on_progress(1)


def encode_behaviour_pair(model: Model, pair: BehaviourPair) -> ScoredPair:
    """The pair as the model reads it: a decoder without what follows, an encoder with it; an encoder-decoder fills the gap at
    its first sentinel, or continues its source where its tokenizer has none.
    """
    network, tokenizer = model.network, model.tokenizer
    if isinstance(network, SequenceToSequence):
        return _source_with_gap(model, network, tokenizer, pair)
    after = "" if isinstance(network, LanguageModel) else pair.after
    return encode_pair(model, *(f"{pair.before}{word}{after}" for word in (pair.good, pair.bad)))


def _source_with_gap(
    model: Model, network: SequenceToSequence, tokenizer: Tokenizer, pair: BehaviourPair
) -> ScoredPair:
    if not tokenizer.sentinel_ids:
        return encode_pair(model, pair.good.strip(), pair.bad.strip(), pair.before)
    sentinel = tokenizer.sentinel_ids[0]
    whole = encode_input(model, pair.before + pair.after, "")
    before = tokenizer.encode(pair.before)
    source = (
        *before,
        sentinel,
        *tokenizer.encode(pair.after),
        *whole.source_ids[len(whole.source_ids) - 1 :],
    )
    sides = []
    for word in (pair.good, pair.bad):
        target = (network.config.decoder_start_id, sentinel, *tokenizer.encode(word))
        given = ModelInput(target, token_texts(tokenizer, target), (), source, token_texts(tokenizer, source))
        sides.append(ScoredInput(given, tuple(range(1, len(target) - 1)), target[2:]))
    return ScoredPair(*sides)


def _most_negative(total: dict[str, np.ndarray], n_heads: int) -> tuple[NetworkUnit, ...]:
    """The heads whose ablation lowers the value most."""
    every = [
        (float(effect), NetworkUnit(name, i))
        for name, of_site in total.items()
        for i, effect in enumerate(of_site)
    ]
    n_heads = max(1, min(n_heads, len(every) // 4))
    return tuple(unit for _, unit in sorted(every)[:n_heads])


def _random_heads(
    network: Any, heads: Sequence[NetworkUnit], generator: np.random.Generator
) -> list[list[NetworkUnit]]:
    """Draws of as many of the other heads."""
    others = [
        NetworkUnit(f"{layer.name}.{kind}.heads", head)
        for layer in layers(network)
        for kind in layer.attentions
        for head in range(layer.n_heads)
    ]
    others = [unit for unit in others if unit not in heads]
    n_drawn = min(len(heads), len(others))
    return [
        [others[i] for i in generator.choice(len(others), n_drawn, replace=False)] for _ in range(N_RANDOM)
    ]


def _deciding_attention(
    model: Model, pair: ScoredPair, heads: Sequence[NetworkUnit]
) -> dict[str, dict[str, np.ndarray]]:
    """The deciding token's attention by name, in the mean of the carriers there, and of all other heads: (S,) each. Of an
    encoder-decoder what the decoder sees: its own tokens and the source.
    """
    network = model.network
    if all(why_no_weights(module) for module in attention_modules(network).values()):
        return {"carriers": {}, "others": {}}
    maps: AttentionMaps = attention_maps(model, pair.good.given)
    found: dict[str, dict[str, np.ndarray]] = {"carriers": {}, "others": {}}
    for name, weights in maps.maps.items():
        if name.startswith("encoder."):
            continue
        rows = weights[:, pair.deciding, weights.shape[2] - len(maps.keys(name)) :]
        mine = [unit.index for unit in heads if unit.site == f"{name}.heads"]
        rest = [head for head in range(len(rows)) if head not in mine]
        for kind, chosen in (("carriers", mine), ("others", rest)):
            if chosen:
                found[kind][name] = rows[chosen].mean(0)
    return found


def _attention_to_words(
    model: Model, one: BehaviourPair, pair: ScoredPair, heads: Sequence[NetworkUnit]
) -> dict[str, AttentionToWords]:
    given, found = pair.good.given, {}
    is_pair = bool(given.source_ids)
    for kind, by_name in _deciding_attention(model, pair, heads).items():
        rows = [row for name, row in by_name.items() if name.endswith("cross_attention") == is_pair]
        shares = []
        for word in (one.cue, one.distractor):
            at = word_positions(model, given, one.before, word)
            known = bool(at) and bool(rows)
            shares.append(float(np.mean([row[at].sum() for row in rows])) if known else None)
        found[kind] = AttentionToWords(*shares)
    return found


def word_positions(model: Model, given: ModelInput, text: str, word: str) -> list[int]:
    """The tokens of the first whole occurrence of `word` in `text`, which is the beginning of what the model reads (of an
    encoder-decoder of its source). Empty where it does not occur.
    """
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) if word else None
    if match is None:
        return []
    ids, spans = model.tokenizer.reference_encoder.spans(text)
    read = given.source_ids or given.token_ids
    shared = max(1, len(ids) - 1)  # the last token may join what follows
    start = next((i for i in range(len(read)) if list(read[i : i + shared]) == ids[:shared]), None)
    if start is None:
        return []
    return [start + i for i, (begin, end) in enumerate(spans) if begin < match.end() and end > match.start()]


def _mean_shares(shares: Sequence[AttentionToWords]) -> AttentionToWords:
    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return AttentionToWords(mean([one.cue for one in shares]), mean([one.distractor for one in shares]))


def _example(
    model: Model, one: BehaviourPair, pair: ScoredPair, heads: Sequence[NetworkUnit], values: np.ndarray
) -> Example:
    given, best = pair.good.given, {}
    for kind, by_name in _deciding_attention(model, pair, heads).items():
        total: dict[str, float] = {}
        for name, row in by_name.items():
            tokens = given.source_tokens if name.endswith("cross_attention") else given.tokens
            for position, share in enumerate(row[len(row) - len(tokens) :]):
                where = f"{position} {tokens[position].strip()}"
                total[where] = total.get(where, 0.0) + float(share) / len(by_name)
        best[kind] = tuple(sorted(total.items(), key=lambda item: -item[1])[:N_SHOWN])
    return Example(
        tokens=given.source_tokens or given.tokens,
        deciding=pair.deciding,
        good=one.good.strip(),
        bad=one.bad.strip(),
        value=float(values[0]),
        value_without=float(values[1]),
        carriers=best["carriers"],
        others=best["others"],
    )
