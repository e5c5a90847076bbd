"""The meaning of a word by its context, in vectors: do two uses of "bank" in one sense lie nearer than two in different ones?

The word's vector is the mean of its tokens' in the residual stream after each layer. Its neighbours are its other
occurrences, by cosine; a layer tells the senses apart as often as an occurrence's nearest neighbour has its sense. Without
the attention of a layer shows where that is computed: the word's own tokens are the same everywhere.

Shapes: N sentences, L layers, W d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from parakit.common.errors import UserError
from parakit.common.progress import OnProgress
from parakit.inference.loaded_model import Model
from parakit.inspection.ablation import NetworkUnit, ablated
from parakit.inspection.behaviours.measuring import word_positions
from parakit.inspection.capture import capture
from parakit.inspection.inputs import HAS_VOCABULARY, encode_input, run_batch
from parakit.inspection.sites import layers
from parakit.model.heads import SequenceToSequence

BANK = {
    "river": (
        "We walked along the river and rested on the bank under a willow.",
        "The boat drifted across the stream until it touched the bank and stopped.",
        "After the flood the water rose over the muddy bank and into the fields.",
        "The fisherman stood on the river with his rod and looked along the bank for a dry place.",
        "Ducks swam on the lake, and two swans slept on the grassy bank near the reeds.",
        "They pulled the canoe out of the water and up the steep bank to the path.",
        "Reeds and wild flowers grow by the creek, all along the bank where the cows drink.",
        "The swimmer reached the shore of the river and climbed up the bank, wet and cold.",
    ),
    "money": (
        "She opened an account and put her savings in the bank for her children.",
        "He needed a loan for his new car, so he went to the bank to ask for one.",
        "The manager checked the cash and the checks before the bank closed in the evening.",
        "With a credit card and a mortgage he paid the bank interest every month.",
        "The thieves took the money from the safe and ran out of the bank with guns.",
        "Her salary is paid on the first of the month by her employer to her bank in the city.",
        "The company could not pay its debts, and the bank refused to lend it more.",
        "Investors sold their shares after the central bank raised the interest rates.",
    ),
}


@dataclass(frozen=True)
class Neighbours:
    """A sentence, its sense, and the nearest of the others by the word's vector: sentence, sense, cosine."""

    sentence: str
    sense: str
    neighbours: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class SenseResult:
    """The senses of one word."""

    word: str
    layers: tuple[str, ...]
    right: np.ndarray  # (L, N) bool: the nearest neighbour has the same sense
    within: np.ndarray  # (L,): mean cosine of two sentences of one sense
    between: np.ndarray  # (L,): of two senses
    best: int
    """The layer that tells them apart best; of several the one with the widest gap between the mean cosines."""
    without: np.ndarray  # (L, N) bool: `right` in the best layer with one layer's heads ablated
    neighbours: tuple[Neighbours, ...]
    """In the best layer."""


def measure_senses(
    model: Model,
    word: str = "bank",
    sentences: dict[str, Sequence[str]] | None = None,
    *,
    n_shown: int = 3,
    on_progress: OnProgress | None = None,
) -> SenseResult:
    """The vectors of a word in `sentences` by sense (default: of "bank"). Any family; of an encoder-decoder its encoder. A
    decoder has only read what comes before the word. `on_progress` is called with the number of sentences that were read.
    Raises `UserError` for a sentence without the word.
    """
    sentences = dict(BANK if sentences is None else sentences)
    labelled = [(text, sense) for sense, texts in sentences.items() for text in texts]
    network = model.network
    stack = "encoder." if isinstance(network, SequenceToSequence) else ""
    of_stack = [one for one in layers(network) if one.stack == stack]
    names = [f"{one.name}.output" for one in of_stack]
    vectors = _word_vectors(model, word, labelled, names, None, on_progress)  # (L, N, W)
    right, within, between = _neighbour_figures(vectors, [sense for _, sense in labelled])
    best = int(np.lexsort((within - between, right.mean(1)))[-1])
    senses = [sense for _, sense in labelled]
    without = []
    for one in of_stack[: best + 1]:
        units = [NetworkUnit(f"{one.name}.attention.heads", head) for head in range(one.n_heads)]
        changed = _word_vectors(model, word, labelled, [names[best]], units, on_progress)
        without.append(_neighbour_figures(changed, senses)[0][0])
    cosines = _cosines(vectors[best])
    shown = tuple(
        Neighbours(
            text,
            sense,
            tuple(
                (labelled[i][0], labelled[i][1], float(cosines[number, i]))
                for i in np.argsort(-cosines[number])
                if i != number
            )[:n_shown],
        )
        for number, (text, sense) in enumerate(labelled)
    )
    return SenseResult(
        word, tuple(one.name for one in of_stack), right, within, between, best, np.stack(without), shown
    )


def _word_vectors(
    model: Model,
    word: str,
    labelled: Sequence[tuple[str, str]],
    names: Sequence[str],
    units: list[NetworkUnit] | None,
    on_progress: OnProgress | None,
) -> np.ndarray:
    """(layers, N, W): the mean of the word's tokens after each layer, with units ablated or not."""
    network, vectors = model.network, []
    has_vocabulary = isinstance(network, HAS_VOCABULARY)
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(ablated(network, [units]) if units else nullcontext())
        found = stack.enter_context(capture(network, names))
        for text, _ in labelled:
            given = encode_input(model, text, "" if isinstance(network, SequenceToSequence) else None)
            at = word_positions(model, given, text, word)
            if not at:
                raise UserError(f"{word!r} does not occur in {text!r}", "give sentences with the word")
            run_batch(network, [given], [0] if has_vocabulary else None)
            vectors.append(np.stack([found[name][0, at].float().mean(0).cpu().numpy() for name in names]))
            if on_progress is not None:
                on_progress(1)
    return np.stack(vectors, 1)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """(N, W) -> (N, N), after subtracting the mean of all, which residual streams share to a large part."""
    centred = vectors - vectors.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)
    cosines: np.ndarray = unit @ unit.T
    return cosines


def _neighbour_figures(
    vectors: np.ndarray, senses: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of (L, N, W): whether each nearest neighbour has the same sense, (L, N), and the mean cosines within and between."""
    same = np.array(senses)[:, None] == np.array(senses)
    apart = ~np.eye(len(senses), dtype=bool)
    right, within, between = [], [], []
    for layer in vectors:
        cosines = _cosines(layer)
        closest = np.where(apart, cosines, -np.inf).argmax(1)
        right.append(same[np.arange(len(senses)), closest])
        within.append(cosines[same & apart].mean())
        between.append(cosines[~same].mean())
    return np.stack(right), np.array(within), np.array(between)
