"""How well a reward model judges: how often it finds the better answer, how sure it may be, and whether it only
measures length.

Every better answer of a ranking is held against every worse one; a tie is half right. Beside the accuracy stands a
judge that looks at nothing but length, in the direction that suits these very answers best. The lead of one reward
over another claims a probability, sigmoid(lead); calibration says how true such claims are (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.preferences import PREFERENCE_SPLITS, iter_preferences, read_preferences
from parakit.data.preferences.rankings import Ranking
from parakit.data.skipped_rows import SkippedRows, skip_summary
from parakit.evaluation.intervals import bootstrap_mean
from parakit.evaluation.metrics.correlation import spearman
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.model.heads import RewardModel
from parakit.tokens.preferences.encoding import EncodedRankings, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer

TOKENS_PER_FORWARD = 8192
N_BINS = 10


def evaluate_preferences(
    model: RewardModel,
    tokenizer: Tokenizer,
    rankings: Iterable[Ranking],
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """The figures of `model` on rankings. `advance` is called with the number of rankings of each batch. A model that
    gives no rewards is a `UserError`.
    """
    require_capability(model, "reward")
    data = encode_rankings(tokenizer, rankings, model.config.max_seq_len)
    report = preference_report(score_rankings(model, data, advance), data)
    return report | {"prompts_cut": data.n_truncated, "skipped_rows": data.n_skipped}


@torch.inference_mode()
def score_rankings(
    model: RewardModel, data: EncodedRankings, advance: Callable[[int], object] | None = None
) -> np.ndarray:
    """(n_completions,) float32: the reward of every completion of `data`, in its order."""
    device = model.reward_head.weight.device
    found = np.zeros(data.n_completions, np.float32)
    n_rows = max(1, TOKENS_PER_FORWARD // (2 * int(data.lengths.max())))
    with evaluation_mode(model):
        for numbers, batch in PreferenceSource(data, 0).once(n_rows):
            there = batch.real_mask.any(-1)
            inputs, targets, real = (
                torch.from_numpy(one[there]).to(device)
                for one in (batch.input_ids, batch.target_ids, batch.real_mask)
            )
            rewards = model(
                torch.cat([inputs[:, :1], targets], 1), attention_mask=torch.cat([real[:, :1], real], 1)
            )
            places = [np.arange(data.first[r], data.first[r + 1]) for r in numbers]
            found[np.concatenate(places)] = rewards.float().cpu().numpy()
            if advance is not None:
                advance(len(numbers))
    return found


def preference_report(rewards: np.ndarray, data: EncodedRankings) -> dict[str, Any]:
    """Accuracy with its interval, the judge of length, calibration, and how rewards lie."""
    lengths = data.lengths - data.prompt_lengths
    better, worse, ranking = _pairs(data)
    leads = (rewards[better] - rewards[worse]).astype(np.float64)
    longer = np.sign(lengths[better] - lengths[worse])
    right = _right(leads)
    n_pairs = np.bincount(ranking, minlength=data.n_examples).astype(float)
    accuracy = bootstrap_mean(np.bincount(ranking, right, minlength=data.n_examples), n_pairs)
    longer_is_better = float(_right(longer).mean())
    return {
        "rankings": data.n_examples,
        "pairs": len(better),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "chance": 0.5,
        "length_judge": max(longer_is_better, 1 - longer_is_better),
        "longer_is_better": longer_is_better,
        "accuracy_where_longer": _mean(right[longer > 0]),
        "accuracy_where_shorter": _mean(right[longer < 0]),
        "length_correlation": spearman(
            *_within(rewards.astype(np.float64), lengths.astype(np.float64), data)
        ),
        **calibration(leads),
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
    }


def calibration(leads: np.ndarray) -> dict[str, Any]:
    """How often the answer with the higher reward is the better one, by how sure sigmoid(lead) is of it: bins of claimed
    and true shares, and the mean distance between the two (expected calibration error). `leads` (n,): better less
    worse.
    """
    claimed = 1 / (1 + np.exp(-np.abs(leads)))  # at least a half
    right = _right(leads)
    bins = np.minimum(((claimed - 0.5) * 2 * N_BINS).astype(int), N_BINS - 1)
    reliability = []
    for number in np.unique(bins):
        inside = bins == number
        reliability.append(
            {
                "claimed": float(claimed[inside].mean()),
                "true": float(right[inside].mean()),
                "pairs": int(inside.sum()),
            }
        )
    error = sum(one["pairs"] * abs(one["claimed"] - one["true"]) for one in reliability) / len(leads)
    return {"calibration_error": error, "reliability": reliability}


def _pairs(data: EncodedRankings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the better and of the worse completion of every pair, and its ranking's."""
    found = [
        (begin + i, begin + j, number)
        for number, (begin, end) in enumerate(zip(data.first[:-1], data.first[1:], strict=True))
        for i in range(end - begin)
        for j in range(i + 1, end - begin)
    ]
    better, worse, ranking = np.array(found).T
    return better, worse, ranking


def _right(leads: np.ndarray) -> np.ndarray:
    return (np.sign(leads) + 1) / 2


def _within(rewards: np.ndarray, lengths: np.ndarray, data: EncodedRankings) -> tuple[np.ndarray, np.ndarray]:
    """Both less their ranking's mean: what a prompt asks for decides neither."""
    sizes = np.diff(data.first)
    means = (np.add.reduceat(one, data.first[:-1]) / sizes for one in (rewards, lengths))
    of_rewards, of_lengths = (np.repeat(mean, sizes) for mean in means)
    return rewards - of_rewards, lengths - of_lengths


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def read_rankings(path: str, split: str | None) -> Iterator[Ranking]:
    """The rankings of a file, with a printed count of skipped rows, or of a split of a folder.

    Without `split`: test, or validation where that is empty. Raises `UserError` for an empty split.
    """
    if not (Path(path) / LINEAGE).is_file():
        skipped = SkippedRows()
        yield from (ranking for _, ranking in read_preferences(path, skipped))
        for line in skip_summary({"skipped_rows": skipped.counts, "skipped_locations": skipped.locations}):
            log(f"{path}: {line}")
        return
    for name in (split,) if split else PREFERENCE_SPLITS[::-1]:
        found = list(iter_preferences(path, name))
        if found:
            log(f"{path}: {len(found):,} rankings of the {name} split")
            yield from found
            return
        if split:
            raise UserError(f"{path}: the split {split!r} is empty", "name another, or make the folder again")
