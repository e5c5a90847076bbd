"""The mistakes of learning from preferences, put back one by one (pitfalls 1, 2, 4, 11, 13, 17, 33, 34, 35), and no
false alarm on a healthy run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.data.conversations.conversation import Message
from parakit.data.preferences import Ranking
from parakit.model import DecoderConfig, LanguageModel, RewardModel
from parakit.model.layers.masks import supports_prefix_tree
from parakit.tokens.batches.batch import RankingBatch
from parakit.tokens.preferences.encoding import encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingConfig, resolve_examples
from tests.contracts.patients import NAMES, THINGS, Patient
from tests.contracts.task_patients import SHAPE

ALL = pytest.mark.parametrize("kind", ["reward", "dpo"])
Healthy = Callable[..., Patient]


def ranking(number: int) -> Ranking:
    answers = [f"{NAMES[(number + k) % 6]} did, on day {number}." for k in range(2 + number % 2)]
    return Ranking((Message("user", f"Who found {THINGS[number % 6]}?"),), tuple(answers))


@pytest.fixture
def healthy(tokenizer: Tokenizer) -> Healthy:
    def make(kind: str, **changes: Any) -> Patient:
        torch.manual_seed(0)
        shape = DecoderConfig(**SHAPE | {"vocab_size": tokenizer.vocab_size} | changes)
        model: Any = RewardModel(shape) if kind == "reward" else LanguageModel(shape)
        data = encode_rankings(tokenizer, map(ranking, range(24)), 64)
        reference = reference_log_probs(model, PreferenceSource(data, 0)) if kind == "dpo" else None
        plan = resolve_examples(
            TrainingConfig(seq_len=64, batch_examples=6, max_steps=4, device="cpu"), learning_rate=0.01,
            embedding_learning_rate=0.01, max_seq_len=128, n_train_examples=24,
        )  # fmt: skip
        objective: Any = (
            RewardObjective(reward_centering_coef=0.01) if kind == "reward" else PreferenceObjective()
        )
        source: Any = PreferenceSource(
            data, 0, reference, n_rows_hint=6, share_prompts=supports_prefix_tree(shape)
        )
        return Patient(model, tokenizer, data, source, plan, kind, objective)  # type: ignore[arg-type]

    return make


class Changed(PreferenceSource):
    """Real batches with one thing wrong."""

    def __init__(self, source: Any, change: Callable[[RankingBatch], dict[str, Any]]) -> None:
        share = source.share_prompts
        super().__init__(source.data, source.seed, source.reference, n_rows_hint=6, share_prompts=share)
        self.change = change

    def batch_of(self, rankings: Any) -> RankingBatch:
        batch = super().batch_of(rankings)
        return replace(batch, **self.change(batch))


def ill(patient: Patient, change: Callable[[RankingBatch], dict[str, Any]]) -> str:
    return patient.but(source=Changed(patient.source, change)).verdict()


@ALL
@pytest.mark.parametrize(
    "changes", [{}, {"dropout": 0.2}, {"n_experts": 2, "n_active_experts": 1, "d_expert": 8}]
)
def test_a_healthy_run_passes_every_check(kind: str, changes: dict[str, Any], healthy: Healthy) -> None:
    patient = healthy(kind, **changes)
    before = [p.detach().clone() for p in patient.model.parameters()]
    assert patient.faults() == []
    assert all(torch.equal(one, other) for one, other in zip(before, patient.model.parameters(), strict=True))


@ALL
def test_01_the_prompt_counts(kind: str, healthy: Healthy) -> None:
    assert ill(healthy(kind), lambda batch: {"loss_mask": batch.real_mask}) == "loss-on-prompt"


@ALL
def test_01_padding_counts(kind: str, healthy: Healthy) -> None:
    every = np.ones_like
    assert ill(healthy(kind), lambda batch: {"loss_mask": every(batch.loss_mask)}) == "loss-on-padding"


@ALL
def test_04_the_end_of_the_turn_does_not_count(kind: str, healthy: Healthy) -> None:
    def without_end(batch: RankingBatch) -> dict[str, Any]:
        mask = batch.loss_mask.copy()
        mask[..., :-1] &= mask[..., 1:]
        mask[..., -1] = False
        return {"loss_mask": mask}

    assert ill(healthy(kind), without_end) in ("loss-on-prompt", "no-end-of-turn")


@ALL
def test_33_the_completions_of_a_ranking_stand_behind_other_tokens(kind: str, healthy: Healthy) -> None:
    def other_prompt(batch: RankingBatch) -> dict[str, Any]:
        input_ids, target_ids = batch.input_ids.copy(), batch.target_ids.copy()
        input_ids[:, 1, 3] = target_ids[:, 1, 2] = 40
        return {"input_ids": input_ids, "target_ids": target_ids}

    assert ill(healthy(kind), other_prompt) == "seam-differs"


@ALL
def test_a_completion_is_ranked_against_itself(kind: str, healthy: Healthy) -> None:
    def twice(batch: RankingBatch) -> dict[str, Any]:
        names = ("input_ids", "target_ids", "loss_mask", "real_mask")
        copies = {name: getattr(batch, name).copy() for name in names}
        for values in copies.values():
            values[:, 1] = values[:, 0]
        return copies

    assert ill(healthy(kind), twice) == "identical-completions"


@ALL
def test_rankings_of_one(kind: str, healthy: Healthy) -> None:
    def lone(batch: RankingBatch) -> dict[str, Any]:
        real, counted = batch.real_mask.copy(), batch.loss_mask.copy()
        real[0, 1:] = counted[0, 1:] = False
        return {"real_mask": real, "loss_mask": counted}

    assert ill(healthy(kind), lone) == "lone-completion"


@ALL
def test_16_targets_shifted_twice(kind: str, healthy: Healthy) -> None:
    assert (
        ill(healthy(kind), lambda batch: {"target_ids": np.roll(batch.target_ids, -1, -1)}) == "targets-shift"
    )


@ALL
def test_11_tokens_are_counted_instead_of_rankings(kind: str, healthy: Healthy) -> None:
    assert ill(healthy(kind), lambda batch: {"n_counted": int(batch.loss_mask.sum())}) == "count-differs"


@ALL
def test_11_a_mean_over_the_micro_batch(kind: str, healthy: Healthy) -> None:
    patient = healthy(kind)
    mean = lambda model, batch: patient.objective(model, batch) / batch.n_counted  # noqa: E731
    assert patient.but(objective=mean).verdict() == "accumulation-weights"


@ALL
def test_the_rejected_are_preferred(kind: str, healthy: Healthy) -> None:
    patient = healthy(kind)

    assert patient.but(objective=lambda m, b: -patient.objective(m, b)).verdict() == "prefers-the-worse"


@ALL
def test_21_a_part_that_nobody_trains(kind: str, healthy: Healthy) -> None:
    patient = healthy(kind)
    patient.model.trunk.final_norm.weight.requires_grad_(False)
    assert patient.verdict() == "no-gradient"


def test_a_policy_in_the_place_of_a_reward_model(healthy: Healthy) -> None:
    assert healthy("dpo").but(kind="reward").verdict() == "head-differs"


def test_34_a_reference_that_is_another_model(healthy: Healthy) -> None:
    patient = healthy("dpo")
    with torch.no_grad():
        patient.model.trunk.token_embedding.weight.add_(0.02 * torch.randn_like(patient.model.lm_head.weight))
    assert patient.verdict() == "reference-differs"


def test_17_a_reference_that_was_asked_with_dropout(healthy: Healthy) -> None:
    patient = healthy("dpo", dropout=0.3)
    with torch.no_grad():
        for parameter in patient.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    noisy = reference_with_dropout(patient)
    source: Any = PreferenceSource(patient.shards, 0, noisy, n_rows_hint=6)  # type: ignore[arg-type]
    assert patient.but(source=source).verdict() == "reference-differs"


def reference_with_dropout(patient: Patient) -> np.ndarray:
    """What a reference in training mode says."""
    from parakit.alignment.preferences.dpo import completion_log_probs
    from parakit.training.micro_batches import to_micro_batch

    data: Any = patient.shards
    patient.model.train()
    batch = PreferenceSource(data, 0).batch_of(range(data.n_examples))
    with torch.no_grad():
        said = completion_log_probs(patient.model, to_micro_batch(batch, torch.device("cpu"))).numpy()
    patient.model.eval()
    return said


def test_35_the_kept_sums_have_the_wrong_sign(healthy: Healthy) -> None:
    patient = healthy("dpo")
    data, said = patient.source.data, patient.source.reference  # type: ignore[attr-defined]
    source: Any = PreferenceSource(data, 0, -said, n_rows_hint=6)
    assert patient.but(source=source).verdict() == "reference-differs"


def test_01_an_objective_that_scores_the_prompt_too(healthy: Healthy) -> None:
    patient = healthy("dpo")

    def greedy(model: Any, batch: Any) -> Any:
        return patient.objective(model, replace(batch, loss_mask=batch.real_mask))

    assert patient.but(objective=greedy).verdict() == "uncounted-targets"
