"""The mistakes of preferences, put back one by one, and no false alarm on a healthy run."""

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
from parakit.training.config import ExampleTrainingConfig, resolve_examples
from parakit.training.tasks import TASKS
from tests.contracts.task_cases import SHAPE
from tests.contracts.training_cases import NAMES, THINGS, TrainingCase

ALL = pytest.mark.parametrize("task", ["reward", "dpo"])
Healthy = Callable[..., TrainingCase]


def ranking(number: int) -> Ranking:
    answers = [f"{NAMES[(number + k) % 6]} did, on day {number}." for k in range(2 + number % 2)]
    return Ranking((Message("user", f"Who found {THINGS[number % 6]}?"),), tuple(answers))


@pytest.fixture
def healthy(tokenizer: Tokenizer) -> Healthy:
    def make(task: str, **changes: Any) -> TrainingCase:
        torch.manual_seed(0)
        shape = DecoderConfig(**SHAPE | {"vocab_size": tokenizer.vocab_size} | changes)
        model: Any = RewardModel(shape) if task == "reward" else LanguageModel(shape)
        data = encode_rankings(tokenizer, map(ranking, range(24)), 64)
        reference = reference_log_probs(model, PreferenceSource(data, 0)) if task == "dpo" else None
        plan = resolve_examples(
            ExampleTrainingConfig(seq_len=64, batch_examples=6, max_steps=4, device="cpu"), learning_rate=0.01,
            embedding_learning_rate=0.01, max_seq_len=128, n_train_examples=24,
        )  # fmt: skip
        objective: Any = (
            RewardObjective(reward_centering_coef=0.01) if task == "reward" else PreferenceObjective()
        )
        source: Any = PreferenceSource(
            data, 0, reference, n_rows_hint=6, share_prompts=supports_prefix_tree(shape)
        )
        return TrainingCase(model, tokenizer, data, source, plan, TASKS[task], objective)  # type: ignore[arg-type]

    return make


class Changed(PreferenceSource):
    """Real batches with one mistake."""

    def __init__(self, source: Any, change: Callable[[RankingBatch], dict[str, Any]]) -> None:
        share = source.share_prompts
        super().__init__(source.data, source.seed, source.reference, n_rows_hint=6, share_prompts=share)
        self.change = change

    def batch_of(self, rankings: Any) -> RankingBatch:
        batch = super().batch_of(rankings)
        return replace(batch, **self.change(batch))


def broken(case: TrainingCase, change: Callable[[RankingBatch], dict[str, Any]]) -> str:
    return case.replace(source=Changed(case.source, change)).first_failure()


@ALL
@pytest.mark.parametrize(
    "changes", [{}, {"dropout": 0.2}, {"n_experts": 2, "n_active_experts": 1, "d_expert": 8}]
)
def test_a_healthy_run_passes_every_check(task: str, changes: dict[str, Any], healthy: Healthy) -> None:
    case = healthy(task, **changes)
    before = [p.detach().clone() for p in case.model.parameters()]
    assert case.failures() == []
    assert all(torch.equal(one, other) for one, other in zip(before, case.model.parameters(), strict=True))


@pytest.mark.catches("loss-on-prompt")
@ALL
def test_the_prompt_counts(task: str, healthy: Healthy) -> None:
    assert broken(healthy(task), lambda batch: {"loss_mask": batch.real_mask}) == "loss-on-prompt"


@pytest.mark.catches("loss-on-padding")
@ALL
def test_padding_counts(task: str, healthy: Healthy) -> None:
    every = np.ones_like
    assert broken(healthy(task), lambda batch: {"loss_mask": every(batch.loss_mask)}) == "loss-on-padding"


@ALL
def test_the_end_of_the_turn_does_not_count(task: str, healthy: Healthy) -> None:
    def without_end(batch: RankingBatch) -> dict[str, Any]:
        mask = batch.loss_mask.copy()
        mask[..., :-1] &= mask[..., 1:]
        mask[..., -1] = False
        return {"loss_mask": mask}

    assert broken(healthy(task), without_end) in ("loss-on-prompt", "no-end-of-turn")


@pytest.mark.catches("seam-differs")
@ALL
def test_completions_of_a_ranking_that_follow_different_prompts(task: str, healthy: Healthy) -> None:
    def other_prompt(batch: RankingBatch) -> dict[str, Any]:
        input_ids, target_ids = batch.input_ids.copy(), batch.target_ids.copy()
        input_ids[:, 1, 3] = target_ids[:, 1, 2] = 40
        return {"input_ids": input_ids, "target_ids": target_ids}

    assert broken(healthy(task), other_prompt) == "seam-differs"


@pytest.mark.catches("identical-completions")
@ALL
def test_a_completion_is_ranked_against_itself(task: str, healthy: Healthy) -> None:
    def twice(batch: RankingBatch) -> dict[str, Any]:
        names = ("input_ids", "target_ids", "loss_mask", "real_mask")
        copies = {name: getattr(batch, name).copy() for name in names}
        for values in copies.values():
            values[:, 1] = values[:, 0]
        return copies

    assert broken(healthy(task), twice) == "identical-completions"


@pytest.mark.catches("lone-completion")
@ALL
def test_rankings_of_one(task: str, healthy: Healthy) -> None:
    def lone(batch: RankingBatch) -> dict[str, Any]:
        real, counted = batch.real_mask.copy(), batch.loss_mask.copy()
        real[0, 1:] = counted[0, 1:] = False
        return {"real_mask": real, "loss_mask": counted}

    assert broken(healthy(task), lone) == "lone-completion"


@pytest.mark.catches("targets-shift")
@ALL
def test_targets_shifted_twice(task: str, healthy: Healthy) -> None:
    assert (
        broken(healthy(task), lambda batch: {"target_ids": np.roll(batch.target_ids, -1, -1)})
        == "targets-shift"
    )


@pytest.mark.catches("count-differs")
@ALL
def test_tokens_are_counted_instead_of_rankings(task: str, healthy: Healthy) -> None:
    assert broken(healthy(task), lambda batch: {"n_counted": int(batch.loss_mask.sum())}) == "count-differs"


@pytest.mark.catches("accumulation-weights")
@ALL
def test_a_mean_over_the_micro_batch(task: str, healthy: Healthy) -> None:
    case = healthy(task)
    mean = lambda model, batch: case.objective(model, batch) / batch.n_counted  # noqa: E731
    assert case.replace(objective=mean).first_failure() == "accumulation-weights"


@pytest.mark.catches("preference-direction")
@ALL
def test_the_rejected_are_preferred(task: str, healthy: Healthy) -> None:
    case = healthy(task)

    assert (
        case.replace(objective=lambda m, b: -case.objective(m, b)).first_failure() == "preference-direction"
    )


@pytest.mark.catches("no-gradient")
@ALL
def test_a_part_that_nobody_trains(task: str, healthy: Healthy) -> None:
    case = healthy(task)
    case.model.trunk.final_norm.weight.requires_grad_(False)
    assert case.first_failure() == "no-gradient"


@pytest.mark.catches("head-differs")
def test_a_policy_in_the_place_of_a_reward_model(healthy: Healthy) -> None:
    assert healthy("dpo").replace(spec=TASKS["reward"]).first_failure() == "head-differs"


@pytest.mark.catches("reference-differs")
def test_a_reference_that_is_another_model(healthy: Healthy) -> None:
    case = healthy("dpo")
    with torch.no_grad():
        case.model.trunk.token_embedding.weight.add_(0.02 * torch.randn_like(case.model.lm_head.weight))
    assert case.first_failure() == "reference-differs"


@pytest.mark.catches("reference-differs")
def test_a_reference_that_was_computed_with_dropout(healthy: Healthy) -> None:
    case = healthy("dpo", dropout=0.3)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    noisy = reference_with_dropout(case)
    source: Any = PreferenceSource(case.shards, 0, noisy, n_rows_hint=6)  # type: ignore[arg-type]
    assert case.replace(source=source).first_failure() == "reference-differs"


def reference_with_dropout(case: TrainingCase) -> np.ndarray:
    """Log-probabilities of a reference in training mode."""
    from parakit.alignment.preferences.dpo import completion_log_probs
    from parakit.training.micro_batches import to_micro_batch

    data: Any = case.shards
    case.model.train()
    batch = PreferenceSource(data, 0).batch_of(range(data.n_examples))
    with torch.no_grad():
        reference = completion_log_probs(case.model, to_micro_batch(batch, torch.device("cpu"))).numpy()
    case.model.eval()
    return reference


@pytest.mark.catches("reference-differs")
def test_reference_log_probs_with_the_wrong_sign(healthy: Healthy) -> None:
    case = healthy("dpo")
    data, reference = case.source.data, case.source.reference  # type: ignore[attr-defined]
    source: Any = PreferenceSource(data, 0, -reference, n_rows_hint=6)
    assert case.replace(source=source).first_failure() == "reference-differs"


@pytest.mark.catches("uncounted-targets")
def test_an_objective_that_scores_the_prompt_too(healthy: Healthy) -> None:
    case = healthy("dpo")

    def greedy(model: Any, batch: Any) -> Any:
        return case.objective(model, replace(batch, loss_mask=batch.real_mask))

    assert case.replace(objective=greedy).first_failure() == "uncounted-targets"
