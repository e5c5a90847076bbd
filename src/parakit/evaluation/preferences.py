"""How well a reward model ranks: its accuracy, its calibration, and how far it only measures length.

Every better completion of a ranking is compared with every worse one; a tie counts a half. The length baseline scores by
length alone, in the direction that fits these rankings best. The margin of two rewards claims a probability,
sigmoid(margin); calibration compares it with the accuracy (Guo et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress, log
from parakit.data.preferences import PREFERENCE_SPLITS, iter_preferences, read_preferences
from parakit.data.preferences.rankings import Ranking
from parakit.data.row_report import RowReport, skip_summary
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
    advance: OnProgress | None = None,
) -> JsonObject:
    """The metrics of `model` on rankings. `advance` is called with the number of rankings of each batch. `UserError` for a
    model without a reward head.
    """
    require_capability(model, "reward")
    data = encode_rankings(tokenizer, rankings, model.config.max_seq_len)
    report = preference_report(score_rankings(model, data, advance), data)
    cut = data.long_rows
    return report | {"truncated_prompts": cut.n_cut, "skipped_rows": cut.n_left_out}


@torch.inference_mode()
def score_rankings(
    model: RewardModel, data: EncodedRankings, advance: OnProgress | None = None
) -> np.ndarray:
    """(n_completions,) float32: the reward of every completion of `data`, in its order."""
    device = model.reward_head.weight.device
    rewards_by_completion = np.zeros(data.n_completions, np.float32)
    n_rows = max(1, TOKENS_PER_FORWARD // (2 * int(data.lengths.max())))
    with evaluation_mode(model):
        for numbers, batch in PreferenceSource(data, 0).one_pass(n_rows):
            present = batch.real_mask.any(-1)
            inputs, targets, real = (
                torch.from_numpy(one[present]).to(device)
                for one in (batch.input_ids, batch.target_ids, batch.real_mask)
            )
            rewards = model(
                torch.cat([inputs[:, :1], targets], 1), attention_mask=torch.cat([real[:, :1], real], 1)
            )
            places = [np.arange(data.first[r], data.first[r + 1]) for r in numbers]
            rewards_by_completion[np.concatenate(places)] = rewards.float().cpu().numpy()
            if advance is not None:
                advance(len(numbers))
    return rewards_by_completion


def preference_report(rewards: np.ndarray, data: EncodedRankings) -> JsonObject:
    """Accuracy with its interval, the length baseline, calibration, and the distribution of rewards."""
    lengths = data.lengths - data.prompt_lengths
    better, worse, ranking = _pair_indices(data)
    margins = (rewards[better] - rewards[worse]).astype(np.float64)
    longer = np.sign(lengths[better] - lengths[worse])
    right = _accuracy(margins)
    n_pairs = np.bincount(ranking, minlength=data.n_examples).astype(float)
    accuracy = bootstrap_mean(np.bincount(ranking, right, minlength=data.n_examples), n_pairs)
    longer_is_better = float(_accuracy(longer).mean())
    return {
        "rankings": data.n_examples,
        "pairs": len(better),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "chance": 0.5,
        "length_baseline": max(longer_is_better, 1 - longer_is_better),
        "longer_is_better": longer_is_better,
        "accuracy_where_longer": _mean(right[longer > 0]),
        "accuracy_where_shorter": _mean(right[longer < 0]),
        "length_correlation": spearman(
            *_minus_group_mean(rewards.astype(np.float64), lengths.astype(np.float64), data)
        ),
        **calibration(margins),
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
    }


def calibration(margins: np.ndarray) -> JsonObject:
    """How often the completion with the higher reward is the better one, by sigmoid(margin): bins of `confidence` and
    `accuracy`, and their mean distance (expected calibration error). `margins` (n,): better minus worse.
    """
    confidence = 1 / (1 + np.exp(-np.abs(margins)))  # at least a half
    right = _accuracy(margins)
    bins = np.minimum(((confidence - 0.5) * 2 * N_BINS).astype(int), N_BINS - 1)
    reliability = []
    for number in np.unique(bins):
        in_bin = bins == number
        reliability.append(
            {
                "confidence": float(confidence[in_bin].mean()),
                "accuracy": float(right[in_bin].mean()),
                "pairs": int(in_bin.sum()),
            }
        )
    error = sum(one["pairs"] * abs(one["confidence"] - one["accuracy"]) for one in reliability) / len(margins)
    return {"calibration_error": error, "reliability": reliability}


def _pair_indices(data: EncodedRankings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The indices of the better and the worse completion of every pair, and of its ranking."""
    pairs = [
        (begin + i, begin + j, number)
        for number, (begin, end) in enumerate(zip(data.first[:-1], data.first[1:], strict=True))
        for i in range(end - begin)
        for j in range(i + 1, end - begin)
    ]
    better, worse, ranking = np.array(pairs).T
    return better, worse, ranking


def _accuracy(margins: np.ndarray) -> np.ndarray:
    return (np.sign(margins) + 1) / 2


def _minus_group_mean(
    rewards: np.ndarray, lengths: np.ndarray, data: EncodedRankings
) -> tuple[np.ndarray, np.ndarray]:
    """Both minus their ranking's mean, which removes the effect of the prompt."""
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
        report = RowReport()
        yield from (ranking for _, ranking in read_preferences(path, report))
        for line in skip_summary(report.to_dict()):
            log(f"{path}: {line}")
        return
    for name in (split,) if split else PREFERENCE_SPLITS[::-1]:
        rankings = list(iter_preferences(path, name))
        if rankings:
            log(f"{path}: {len(rankings):,} rankings of the {name} split")
            yield from rankings
            return
        if split:
            raise UserError(f"{path}: the split {split!r} is empty", "name another, or make the folder again")
