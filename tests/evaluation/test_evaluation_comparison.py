"""Differences of losses and their noise: pairs by block of the text, and runs that differ by their seed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import stats

import parakit
from parakit.checkpoints import save_model
from parakit.common import Lineage
from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.comparison.losses import compare_losses, loss_difference, seed_spread, verdict
from parakit.evaluation.perplexity import blocks_of


def losses_of(nats: np.ndarray, digest: str = "a", in_bytes: bool = True, tokens: int = 10) -> dict:
    n_tokens, n_bytes = tokens * len(nats), 30 * len(nats)
    return {
        "block_nats": nats.tolist(),
        "block_tokens": [tokens] * len(nats),
        "loss_nats_per_token": float(nats.sum() / n_tokens),
        "bits_per_byte": float(nats.sum() / np.log(2) / n_bytes) if in_bytes else None,
        "n_bytes": n_bytes,
        "text_digest": digest,
    }


@pytest.mark.parametrize("in_bytes", [True, False])
def test_a_difference_is_that_of_the_figures_and_its_interval_the_paired_one(in_bytes: bool) -> None:
    generator = rng(0, "blocks")
    hard = generator.gamma(4, 5, 200)  # blocks differ by far more than the models do
    first = losses_of(hard, in_bytes=in_bytes)
    second = losses_of(hard + generator.normal(-0.5, 1, 200), in_bytes=in_bytes, tokens=12)
    key = "bits_per_byte" if in_bytes else "loss_nats_per_token"
    found = loss_difference(first, second)
    assert found.difference == pytest.approx(second[key] - first[key])
    assert found.low < found.difference < found.high
    if in_bytes:  # the interval of a paired t test, within the error of 2,000 resamples
        scaled = (np.array(second["block_nats"]) - hard) / np.log(2) / 30
        low, high = stats.t.interval(0.95, 199, scaled.mean(), stats.sem(scaled))
        assert (found.low, found.high) == pytest.approx((low, high), rel=0.08)
        assert found.above_noise
        assert "above the noise of the evaluation set; the noise of seeds was not measured" in verdict(found)


def test_equal_models_do_not_differ_and_noise_is_called_noise() -> None:
    """Of 200 pairs of models that are equally good, about one in twenty is called different."""
    hard = rng(0, "equal").gamma(4, 5, 100)
    same = loss_difference(losses_of(hard), losses_of(hard))
    assert (same.difference, same.above_noise, same.p_value) == (0, False, 1)
    called = 0
    for draw in range(200):
        noisy = [losses_of(hard + rng(draw, side).normal(0, 1, 100)) for side in ("first", "second")]
        called += loss_difference(*noisy, n_resamples=300).above_noise
    assert called <= 24  # 10 expected; the chance of more than 24 is below 1e-4


def test_the_spread_of_seeds_is_a_prediction_interval() -> None:
    assert seed_spread([1.0]) is None
    values = [0.2571, 0.2472, 0.2406]  # three equal runs [nanochat]
    found = seed_spread(values)
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 3)
    assert (found.low, found.high) == pytest.approx(
        (np.mean(values) - half, np.mean(values) + half), rel=1e-3
    )
    assert not found.excludes(0.2650)
    assert seed_spread(list(np.linspace(0, 1, 40))).high == pytest.approx(
        0.5 + stats.t.ppf(0.975, 39) * 0.2998 * np.sqrt(41 / 40), rel=1e-3
    )
    difference = loss_difference(losses_of(np.full(50, 9.0)), losses_of(np.full(50, 8.0)))
    assert "within the noise of seeds (3 runs" in verdict(difference, found, 0.2650)
    assert "above the noise of seeds (3 runs" in verdict(difference, found, 0.1)


def test_other_texts_are_not_compared() -> None:
    one, other = losses_of(np.ones(9)), losses_of(np.ones(9), "b")
    with pytest.raises(UserError, match=r"loss on text: .* different texts"):
        compare_losses({"text": one}, {"text": other})
    with pytest.raises(UserError, match="has no 'text_digest'"):
        compare_losses({"text": {}}, {"text": other})
    assert compare_losses({"text": one}, {"validation": other}) == {}


@pytest.mark.parametrize("lengths", [[1], [7], [100], [5, 0, 80], [3] * 30, [2] * 2500])
def test_blocks_cover_a_text_in_order(lengths: list[int]) -> None:
    offsets = np.cumsum([0, *lengths])
    block, n = blocks_of(offsets, np.arange(offsets[-1]))
    assert (np.diff(block) >= 0).all()
    assert block.max() < n <= 1000


def test_evaluations_are_compared_by_folder(model, model_folder, tokenizer, tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Anna sees the bird. Where does Tom work? " * 60)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.lm_head.weight.mul_(1.5)
    worse = save_model(other, tokenizer, tmp_path / "worse", Lineage("model", {"chat": True}))
    for name, folder in {"first": model_folder, "again": model_folder}.items():
        parakit.evaluate(folder, text=(str(text),), out=tmp_path / name, device="cpu")
    runs = [tmp_path / "first", tmp_path / "again"]
    found = parakit.evaluate(worse, text=(str(text),), compare=runs, device="cpu")
    compared, loss = found["compared_loss"]["text"], found["loss"]["text"]
    assert "block_nats" not in loss
    assert compared["difference"] > 0
    assert compared["above_noise"]
    assert compared["seeds"]["n"] == 2
    assert "above the noise of seeds" in compared["verdict"]
    same = parakit.evaluate(model_folder, text=(str(text),), compare=runs[0], device="cpu")["compared_loss"][
        "text"
    ]
    assert (same["difference"], same["above_noise"], same["seeds"]) == (0, False, None)
    with pytest.raises(UserError, match="share none"):
        parakit.evaluate(
            model_folder, suites={"n_suite_items": 8}, max_new_tokens=1, compare=runs[0], device="cpu"
        )
