"""DPO, IPO and SimPO: losses and gradients against the formulas, a reference that stays what it was."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from parakit.alignment.preferences import dpo
from parakit.alignment.preferences.dpo import PreferenceObjective, completion_log_probs, reference_log_probs
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import RankingMicroBatch, to_micro_batch
from tests.alignment.ranking_cases import encoded, language_model

CPU = torch.device("cpu")


def pairs(reference: bool = True, sizes: list[int] | None = None) -> RankingMicroBatch:
    data = encoded(sizes or [2] * 6)
    reference_values = (
        reference_log_probs(language_model(1), PreferenceSource(data, 0)) if reference else None
    )
    batch: RankingMicroBatch = to_micro_batch(
        PreferenceSource(data, 0, reference_values).batch_of(range(data.n_examples)), CPU
    )
    return batch


def sums(model: Any, batch: RankingMicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and length of every completion, one by one and without padding."""
    logs, lengths = [], []
    for ids, targets, counted, real in zip(
        batch.input_ids, batch.target_ids, batch.loss_mask, batch.real_mask, strict=True
    ):
        n = int(real.sum())
        log_p = model(ids[None, :n]).log_softmax(-1)[0]
        own = counted[:n]
        logs.append(log_p[torch.arange(n), targets[:n]][own].sum())
        lengths.append(own.sum())
    return torch.stack(logs), torch.stack(lengths)


def gradients(loss: torch.Tensor, model: Any) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return dict(zip((name for name, _ in model.named_parameters()), found, strict=True))


def wanted(
    name: str, logs: torch.Tensor, lengths: torch.Tensor, reference: Any, **settings: float
) -> torch.Tensor:
    """The sum of the papers' losses over pairs; chosen stand at even places."""
    kl_coef, smoothing, margin = (settings.get(key, 0.0) for key in ("kl_coef", "label_smoothing", "margin"))
    rewards = kl_coef * logs / lengths if name == "simpo" else kl_coef * (logs - reference)
    lead = rewards[0::2] - rewards[1::2]
    if name == "ipo":
        return ((lead / kl_coef - 1 / (2 * kl_coef)) ** 2).sum()
    right, wrong = functional.logsigmoid(lead - margin), functional.logsigmoid(-lead - margin)
    return -((1 - smoothing) * right + smoothing * wrong).sum()


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        ("dpo", {"kl_coef": 0.3}),
        ("dpo", {"kl_coef": 0.3, "label_smoothing": 0.1}),
        ("dpo", {"kl_coef": 0.3, "margin": 0.5}),
        ("ipo", {"kl_coef": 0.2}),
        ("simpo", {"kl_coef": 2.0, "margin": 0.7}),
    ],
)
def test_loss_and_gradient_are_those_of_the_paper(loss: Any, settings: dict[str, float]) -> None:
    model, batch = language_model(), pairs(reference=loss != "simpo")
    reference = None if batch.reference is None else batch.reference.double()

    actual = PreferenceObjective(loss, **settings)(model, batch)
    derived = wanted(loss, *sums(model, batch), reference, **settings)

    assert float(actual.detach()) == pytest.approx(float(derived.detach()), rel=1e-9)
    found = gradients(actual, model)
    for name, slope in gradients(derived, model).items():
        torch.testing.assert_close(found[name], slope, rtol=1e-6, atol=1e-9)


def test_the_gradient_is_the_reward_weighted_one_of_the_paper() -> None:
    """Rafailov et al., section 4: -kl_coef * sigmoid(r_rejected - r_chosen) * (grad log chosen - grad log rejected)."""
    model, batch, kl_coef = language_model(), pairs(sizes=[2]), 0.4
    assert batch.reference is not None
    logs, _ = sums(model, batch)
    rewards = kl_coef * (logs - batch.reference.double())
    weight = torch.sigmoid(rewards[1] - rewards[0]).detach()
    derived = gradients(-kl_coef * weight * (logs[0] - logs[1]), model)

    found = gradients(PreferenceObjective("dpo", kl_coef)(model, batch), model)
    for name, slope in found.items():
        torch.testing.assert_close(slope, derived[name], rtol=1e-6, atol=1e-9)


def test_before_the_first_step_the_loss_is_that_of_guessing() -> None:
    model, data = language_model(), encoded([2, 3, 2])
    reference_values = reference_log_probs(model, PreferenceSource(data, 0))
    batch = to_micro_batch(PreferenceSource(data, 0, reference_values).batch_of([0, 1, 2]), CPU)
    loss = float(PreferenceObjective("dpo", 0.1)(model, batch).detach())
    assert loss == pytest.approx(2 * math.log(2) + math.log(6), abs=1e-5)  # two pairs, an order of three


def test_padding_and_neighbours_change_no_log_probability() -> None:
    model, data = language_model(), encoded([2, 2, 3, 2])
    source = PreferenceSource(data, 0)
    together = completion_log_probs(model, to_micro_batch(source.batch_of([0, 1, 2, 3]), CPU))
    alone = [completion_log_probs(model, to_micro_batch(source.batch_of([r]), CPU)) for r in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_logits_in_chunks_give_the_same_loss_and_gradients(monkeypatch) -> None:
    model, data = language_model().double(), encoded([2, 3, 2])
    reference_values = reference_log_probs(model, PreferenceSource(data, 0))
    batch = to_micro_batch(PreferenceSource(data, 0, reference_values - 0.3).batch_of([0, 1, 2]), CPU)
    whole = gradients(PreferenceObjective("dpo", 0.1)(model, batch), model)
    monkeypatch.setattr(dpo, "MAX_WHOLE_LOGITS", 0)
    chunked = gradients(PreferenceObjective("dpo", 0.1)(model, batch), model)
    assert whole.keys() == chunked.keys()
    for name, slope in whole.items():
        torch.testing.assert_close(chunked[name], slope, rtol=1e-6, atol=1e-9)


def test_the_reference_is_computed_without_dropout() -> None:
    model, source = language_model(dropout=0.5), PreferenceSource(encoded([2] * 4), 0)
    model.train()
    first, second = (reference_log_probs(model, source) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.training


def test_training_the_policy_leaves_the_reference_as_it_was() -> None:
    """The reference is numbers, taken once: no step can move them."""
    model, data = language_model(), encoded([2] * 4)
    reference_values = reference_log_probs(model, PreferenceSource(data, 0))
    kept = reference_values.copy()
    batch = to_micro_batch(PreferenceSource(data, 0, reference_values).batch_of([0, 1, 2, 3]), CPU)
    objective = PreferenceObjective("dpo", 0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(5):
        loss = objective(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    np.testing.assert_array_equal(reference_values, kept)
    assert losses[-1] < losses[0]
    figures = objective.metrics.pop()
    assert figures["best_log_ratio"] > figures["other_log_ratio"]
    assert objective.metrics.pop() == {}


def test_rewards_fall_where_the_policy_leaves_the_reference() -> None:
    """The sign of the log ratio: what the policy finds likelier than the reference has a positive reward."""
    model, data = language_model(), encoded([2])
    reference_values = reference_log_probs(model, PreferenceSource(data, 0))
    lifted = PreferenceSource(
        data, 0, reference_values - np.array([3.0, 0.0], np.float32)
    )  # the policy says the best 3 nats likelier
    objective = PreferenceObjective("dpo", 0.1)
    loss = float(objective(model, to_micro_batch(lifted.batch_of([0]), CPU)).detach())
    assert loss == pytest.approx(-math.log(1 / (1 + math.exp(-0.3))), abs=1e-5)
    assert objective.metrics.pop()["margin"] == pytest.approx(0.3, abs=1e-5)


def test_where_nothing_leads_a_pair_is_half_right_and_likelihood_is_told_apart_from_reward() -> None:
    """Before the first step every reward is zero, and accuracy is that of guessing; which answer is likelier is known."""
    model, data = language_model(), encoded([2] * 6)
    reference_values = reference_log_probs(model, PreferenceSource(data, 0)).astype(np.float64)
    objective = PreferenceObjective("dpo", 0.1)
    batch = to_micro_batch(PreferenceSource(data, 0, reference_values).batch_of(range(6)), CPU)
    exact = replace(batch, reference=completion_log_probs(model, batch).detach())
    objective(model, exact)
    figures = objective.metrics.pop()
    assert figures["accuracy"] == 0.5
    assert figures["logp_accuracy"] == pytest.approx((reference_values[0::2] > reference_values[1::2]).mean())


def test_the_reference_is_computed_for_what_a_run_reads() -> None:
    model, data = language_model(), encoded([2, 3, 2, 2, 3, 2, 2, 2])
    source = PreferenceSource(data, 0, n_rows_hint=2)
    read = source.rankings(4)
    everything, some = reference_log_probs(model, source), reference_log_probs(model, source, rankings=read)
    places = np.concatenate([np.arange(data.first[r], data.first[r + 1]) for r in read])
    assert len(read) == 4
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(some)), places)
    np.testing.assert_allclose(some[places], everything[places], atol=1e-5)
    batch = PreferenceSource(data, 0, some, n_rows_hint=2).rows(0, 4)
    assert np.isfinite(batch.reference).all()
    assert len(source.rankings(100)) == data.n_examples
