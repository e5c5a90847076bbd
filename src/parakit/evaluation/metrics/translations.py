"""Written texts against wanted ones: BLEU and chrF as sacrebleu defines them, with its signature, and ROUGE.

A BLEU figure means something only with its signature (Post 2018), so it travels with the figure. Values are in
percent; intervals are 95 % bootstrap over texts. ROUGE's tokens are lower-cased runs of ASCII letters and digits,
unstemmed: it is made for English. Needs the extra `parakit[eval]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.intervals import N_RESAMPLES, Estimate, bootstrap_mean, percentiles

ROUGE_KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


@dataclass(frozen=True)
class SignedEstimate(Estimate):
    """A figure and the signature that says how it was computed."""

    signature: str = ""


def bleu(
    written: Sequence[str], wanted: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> SignedEstimate:
    """Corpus BLEU (Papineni et al. 2002), with sacrebleu's default tokens and smoothing."""
    return _signed("BLEU", written, wanted, seed, n_resamples)


def chrf(
    written: Sequence[str], wanted: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> SignedEstimate:
    """Corpus chrF (Popovic 2015): characters instead of words, kinder to rich inflection."""
    return _signed("CHRF", written, wanted, seed, n_resamples)


def rouge(
    written: Sequence[str], wanted: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, Estimate]:
    """Mean ROUGE-1, -2 and -L (Lin 2004) as F1, in percent: `rouge_1`, `rouge_2`, `rouge_l`."""
    scorer = _extra("rouge_score.rouge_scorer", "rouge-score").RougeScorer(list(ROUGE_KINDS.values()))
    scores = [scorer.score(target, text) for text, target in zip(written, wanted, strict=True)]
    found = {}
    for name, theirs in ROUGE_KINDS.items():
        values = np.array([100 * score[theirs].fmeasure for score in scores])
        found[name] = bootstrap_mean(values, seed=seed, n_resamples=n_resamples)
    return found


def require_libraries() -> None:
    """A `UserError` where sacrebleu or rouge-score is missing; to be asked before hours of translating."""
    _extra("sacrebleu.metrics", "sacrebleu")
    _extra("rouge_score.rouge_scorer", "rouge-score")


def _signed(
    metric_name: str, written: Sequence[str], wanted: Sequence[str], seed: int, n_resamples: int
) -> SignedEstimate:
    assert len(written) == len(wanted), f"{len(written)} texts for {len(wanted)} references"
    metric: Any = getattr(_extra("sacrebleu.metrics", "sacrebleu"), metric_name)()
    value = float(metric.corpus_score(list(written), [list(wanted)]).score)
    # sacrebleu's own bootstrap holds all resamples in memory at once; its counts of each text are enough
    counts = np.array(metric._extract_corpus_statistics(list(written), [list(wanted)]))  # (texts, counts)
    generator = rng(seed, "bootstrap", metric_name)
    drawn = [
        metric._compute_score_from_stats(counts[generator.integers(0, len(counts), len(counts))].sum(0)).score
        for _ in range(n_resamples)
    ]
    return SignedEstimate(value, *percentiles(np.array(drawn)), signature=str(metric.get_signature()))


def _extra(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise UserError(f"{package} is not installed", "pip install 'parakit[eval]'") from None
