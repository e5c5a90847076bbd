"""Text metrics: BLEU and chrF by sacrebleu, with its signature, and ROUGE.

A BLEU score means something only with its signature (Post 2018), so they stay together. Values are in percent; intervals
are 95 % bootstrap over texts. ROUGE's tokens are lower-case runs of ASCII letters and digits, unstemmed: made for English.
Needs the extra `parakit[eval]`.
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

ROUGE_KINDS = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}


@dataclass(frozen=True)
class SignedEstimate(Estimate):
    """An estimate with sacrebleu's signature."""

    signature: str = ""


def bleu(
    predictions: Sequence[str], references: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> SignedEstimate:
    """Corpus BLEU (Papineni et al. 2002), with sacrebleu's default tokens and smoothing."""
    return _sacrebleu("BLEU", predictions, references, seed, n_resamples)


def chrf(
    predictions: Sequence[str], references: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> SignedEstimate:
    """Corpus chrF (Popovic 2015): characters instead of words, which suits rich inflection."""
    return _sacrebleu("CHRF", predictions, references, seed, n_resamples)


def rouge(
    predictions: Sequence[str], references: Sequence[str], *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, Estimate]:
    """Mean ROUGE-1, -2, -L and -Lsum (Lin 2004) as F1, in percent: `rouge_1`, `rouge_2`, `rouge_l`, `rouge_lsum`.

    The last is -L of a summary: its lines are its sentences, and each sentence counts what it has of any other's.
    """
    scorer = _extra("rouge_score.rouge_scorer", "rouge-score").RougeScorer(list(ROUGE_KINDS.values()))
    scores = [scorer.score(target, text) for text, target in zip(predictions, references, strict=True)]
    scores_by_kind = {}
    for name, kind in ROUGE_KINDS.items():
        values = np.array([100 * score[kind].fmeasure for score in scores])
        scores_by_kind[name] = bootstrap_mean(values, seed=seed, n_resamples=n_resamples)
    return scores_by_kind


def require_libraries() -> None:
    """`UserError` where sacrebleu or rouge-score is missing; called before hours of translating."""
    _extra("sacrebleu.metrics", "sacrebleu")
    _extra("rouge_score.rouge_scorer", "rouge-score")


def _sacrebleu(
    metric_name: str, predictions: Sequence[str], references: Sequence[str], seed: int, n_resamples: int
) -> SignedEstimate:
    assert len(predictions) == len(references), f"{len(predictions)} texts for {len(references)} references"
    metric: Any = getattr(_extra("sacrebleu.metrics", "sacrebleu"), metric_name)()
    value = float(metric.corpus_score(list(predictions), [list(references)]).score)
    # sacrebleu's own bootstrap keeps all resamples in memory; its counts of each text suffice
    counts = np.array(
        metric._extract_corpus_statistics(list(predictions), [list(references)])
    )  # (texts, counts)
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
