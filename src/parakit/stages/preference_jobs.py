"""Preference tuning: a reward model, and a policy tuned by DPO and its variants, on the one training loop.

Both read a folder of preferences, encode it through the model's own chat template, and start from a decoder tuned for
chat. Log-probabilities of the completions under the reference are computed once, before training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from parakit.alignment.config import AlignConfig, DPOConfig, RewardConfig, SmoothedMargins
from parakit.alignment.preferences.dpo import MAX_WHOLE_LOGITS, PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.checkpoints.loading import load_model
from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, save_array
from parakit.common.progress import progress
from parakit.common.seeds import seed_everything
from parakit.data.preferences.sets import iter_preferences
from parakit.evaluation.preferences import preference_report, score_rankings
from parakit.inference.capabilities import require_capability
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, RewardModel, TransformerModel
from parakit.model.layers.masks import supports_prefix_tree
from parakit.stages.comparison.measuring import plan_comparison
from parakit.stages.defaults.memory import fit_memory
from parakit.stages.defaults.published import (
    PUBLISHED_FACTORS,
    finish_plan,
    length_for,
    tuning_config,
    tuning_sizing,
)
from parakit.stages.defaults.time_budget import epochs_in_time
from parakit.stages.job import PreparedRun
from parakit.stages.run_dir import load_plan, save_plan
from parakit.stages.task_models import build_model, copy_matching_weights, with_dropout
from parakit.stages.tasks import VALIDATION_SEED, VALIDATION_TOKENS
from parakit.tokens.config import long_row_rule
from parakit.tokens.preferences.encoding import EncodedRankings, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan, lengths_given, resolve_examples
from parakit.training.doctor.setup import TrainingSetup
from parakit.training.pace import TimeBudget
from parakit.training.tasks import TASKS, TaskSpec, TrainingTask
from parakit.training.validation import one_epoch, validation_loss

REWARD_RATE_FACTOR, DPO_RATE_FACTOR = 0.25, 0.025  # of the pre-training rate; see docs/log.md, 2026-11-25
REWARD_EPOCHS, DPO_EPOCHS = 2.0, 1.0
BATCH_RANKINGS, MIN_BATCH_RANKINGS = 32, 4
MIN_STEPS = 16  # of an epoch, if there are enough rankings: small sets get smaller batches
SPLITS, REFERENCE = ("train", "validation"), "reference"
MIN_VALIDATION_ROWS = 8
DOCTOR_ROWS = 4  # the fewest that the doctor reads

RankingObjective = RewardObjective | PreferenceObjective
Rankings = dict[str, EncodedRankings]


def prepare_reward_model(
    model: Path, preferences: Path, training: RewardConfig, run_dir: Path, budget: TimeBudget | None = None
) -> PreparedRun:
    """The training run of a reward model on rankings."""
    base, tokenizer, data = _load(model, preferences, training)
    epochs = _epochs(REWARD_EPOCHS, model, preferences, training, budget)
    plan = _plan(model, training, base, data["train"], run_dir, REWARD_RATE_FACTOR, epochs)
    reward_model = _reward_model(base, training)
    plan = _fitted("reward", reward_model, base, plan, training, run_dir)
    objective = RewardObjective(training.margin, training.row_margins, training.reward_centering_coef)
    task = _task(TASKS["reward"], base, data, plan, objective, RewardObjective(), {})

    def summarize(figures: JsonObject) -> JsonObject:
        held_out = data["validation"]  # as `parakit evaluate --preferences` measures it
        return figures | {"reward_eval": preference_report(score_rankings(reward_model, held_out), held_out)}

    setup = TrainingSetup("reward", reward_model, tokenizer, task, plan, run_dir)
    run = PreparedRun("align", "reward", setup, [model, preferences], summarize=summarize)
    return _prepared(run, data, training)


def prepare_preference_tuning(
    model: Path, preferences: Path, training: DPOConfig, run_dir: Path, budget: TimeBudget | None = None
) -> PreparedRun:
    """The training run of a policy on rankings by DPO, IPO or SimPO."""
    base, tokenizer, data = _load(model, preferences, training)
    epochs = _epochs(DPO_EPOCHS, model, preferences, training, budget)
    plan = _plan(model, training, base, data["train"], run_dir, DPO_RATE_FACTOR, epochs)
    policy = _policy(base, training)
    plan = _fitted("dpo", policy, base, plan, training, run_dir, max_logits=MAX_WHOLE_LOGITS)
    loss, smoothing, margins = training.preference_loss, 0.0, (0.0, False)
    if chosen := part_of(training, SmoothedMargins):
        smoothing, margins = chosen.label_smoothing, (chosen.margin, chosen.row_margins)
    objective, unsmoothed = (
        PreferenceObjective(loss, training.kl_coef, label_smoothing, *margins)
        for label_smoothing in (smoothing, 0.0)
    )
    spec = TASKS["dpo"]
    if loss == "ipo":
        spec = replace(spec, loss_unit="squared nats per ranking")
    references = {} if loss == "simpo" else _reference_log_probs(base, data, plan, run_dir)
    task = _task(spec, base, data, plan, objective, unsmoothed, references)
    setup = TrainingSetup("dpo", policy, tokenizer, task, plan, run_dir)
    run = PreparedRun("align", "dpo", setup, [model, preferences], is_chat=True)
    return _prepared(run, data, training)


def _load(model: Path, preferences: Path, training: AlignConfig) -> tuple[LanguageModel, Tokenizer, Rankings]:
    """A decoder in float32, its tokenizer, and the encoded preferences; `UserError` where the model does not chat."""
    base, tokenizer = load_model(model, pick_device(training.device), "float32")
    require_capability(base, "generate")
    assert isinstance(base, LanguageModel)
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{model}: has no chat template, so preferences cannot be read", "align a model tuned for chat"
        )
    max_seq_len = base.config.max_seq_len
    seq_len = min(training.seq_len or max_seq_len, max_seq_len)
    with progress("preferences", unit="rankings") as bar:
        data = {
            split: encode_rankings(
                tokenizer,
                iter_preferences(preferences, split),
                seq_len,
                too_long=long_row_rule(training),
                window=max_seq_len,
                progress=bar,
            )
            for split in SPLITS
        }
    return base, tokenizer, data


def _epochs(
    usual: float, model: Path, preferences: Path, training: AlignConfig, budget: TimeBudget | None
) -> float:
    """The passes over the rankings where none are given: the usual number, or what fits into the time."""
    if budget is None or lengths_given(training):
        return usual
    return min(usual, epochs_in_time(training, model, preferences, budget.left))


def _plan(
    model: Path,
    training: AlignConfig,
    base: LanguageModel,
    data: EncodedRankings,
    run_dir: Path,
    rate_factor: float,
    epochs: float,
) -> TrainingPlan:
    """The saved plan of an interrupted run, or a new one; seeds everything with its seed."""
    if saved := load_plan(run_dir):
        plan = saved[1]
    else:
        sizing, training = tuning_sizing(model, base.config), tuning_config(model, training)
        if sizing.is_published:
            rate_factor = PUBLISHED_FACTORS[training.method]
            longest = length_for(data.lengths, base.config.max_seq_len, 100)
            training = training.replace(seq_len=training.seq_len or longest)
        plan = resolve_examples(
            training,
            learning_rate=sizing.learning_rate * rate_factor,
            embedding_learning_rate=sizing.embedding_learning_rate * rate_factor,
            max_seq_len=base.config.max_seq_len,
            n_train_examples=data.n_examples,
            batch_examples=max(MIN_BATCH_RANKINGS, min(BATCH_RANKINGS, data.n_examples // MIN_STEPS)),
            default_epochs=epochs,
        )
        if sizing.is_published:
            n_rows = plan.rows_before(plan.max_steps)
            plan = finish_plan(plan, training, base.config, n_rows * int(data.offsets[-1]) // data.n_examples)
    save_plan(run_dir, base.config, plan)
    seed_everything(plan.seed)
    return plan


def _fitted(
    title: str,
    model: TransformerModel,
    base: LanguageModel,
    plan: TrainingPlan,
    training: AlignConfig,
    run_dir: Path,
    max_logits: int = 0,
) -> TrainingPlan:
    """The plan with what fits into memory; that of an interrupted run as it is."""
    if not load_plan(run_dir):
        plan = fit_memory(title, model, base.config, plan, training, texts_per_row=2, max_logits=max_logits)
        save_plan(run_dir, base.config, plan)
    return plan


def _reward_model(base: LanguageModel, training: RewardConfig) -> RewardModel:
    config = with_dropout(base.config, training.dropout)
    assert isinstance(config, DecoderConfig)
    model = RewardModel(config)
    copy_matching_weights(model, base)
    return model


def _policy(base: LanguageModel, training: DPOConfig) -> TransformerModel:
    """The base itself: its log-probabilities as the reference are computed before the first step. With another dropout,
    a model with its weights.
    """
    config = with_dropout(base.config, training.dropout)
    if config == base.config:
        return base
    model = build_model(config)
    copy_matching_weights(model, base)
    return model


def _reference_log_probs(
    base: LanguageModel, data: Rankings, plan: TrainingPlan, run_dir: Path
) -> dict[str, np.ndarray]:
    """The log-probabilities of every completion that the run reads, under the model before training, cached in the run
    directory.
    """
    path = run_dir / REFERENCE
    if not path.exists():
        n_read = {"train": plan.rows_before(plan.max_steps), "validation": _validation_rows(data, plan)}
        with writing_artifact(path, Lineage("reference_log_probs", seed=plan.seed)) as folder:
            for split in SPLITS:
                source = _source(base, data, split, plan, None)
                rankings = source.rankings(max(n_read[split], DOCTOR_ROWS))
                with progress(f"reference ({split})", len(rankings), "rankings") as bar:
                    save_array(
                        folder / f"{split}.npy", reference_log_probs(base, source, bar.advance, rankings)
                    )
    folder = open_artifact(path, "reference_log_probs").path
    return {split: np.load(folder / f"{split}.npy", allow_pickle=False) for split in SPLITS}


def _task(
    spec: TaskSpec,
    base: LanguageModel,
    data: Rankings,
    plan: TrainingPlan,
    objective: RankingObjective,
    unsmoothed: RankingObjective,
    references: dict[str, np.ndarray],
) -> TrainingTask:
    """The task of `objective`, validated with the `unsmoothed` objective, so that losses can be compared."""
    validation, train = (
        _source(base, data, split, plan, references.get(split)) for split in ("validation", "train")
    )
    n_rows = max(1, VALIDATION_TOKENS // (2 * plan.seq_len))
    max_rows = _validation_rows(data, plan)

    def validate(model: TransformerModel) -> JsonObject:
        unsmoothed.metrics.pop()
        loss = validation_loss(model, one_epoch(validation, n_rows, max_rows), unsmoothed).loss
        return {"loss": loss} | unsmoothed.metrics.pop()

    return TrainingTask(
        spec,
        train,
        data["train"],
        objective,
        validate,
        objective.metrics.pop,
        long_rows={split: data[split].long_rows for split in SPLITS},
    )


def _validation_rows(data: Rankings, plan: TrainingPlan) -> int:
    """Rankings that a validation reads: all of the split, or what the plan has time for."""
    held_out = data["validation"]
    if plan.validation_tokens is None:
        return held_out.n_examples
    per_ranking = max(1, int(held_out.offsets[-1]) // held_out.n_examples)
    return min(held_out.n_examples, max(MIN_VALIDATION_ROWS, plan.validation_tokens // per_ranking))


def _source(
    base: LanguageModel, data: Rankings, split: str, plan: TrainingPlan, reference: np.ndarray | None
) -> PreferenceSource:
    seed = plan.seed if split == "train" else VALIDATION_SEED
    share = supports_prefix_tree(base.config)
    return PreferenceSource(data[split], seed, reference, n_rows_hint=plan.n_rows, share_prompts=share)


def _prepared(run: PreparedRun, data: Rankings, training: AlignConfig) -> PreparedRun:
    """`run` with the figures that both methods report, and the measurements before the first step."""
    train, setup = data["train"], run.setup
    figures = {
        "method": run.objective,
        "rankings": train.n_examples,
        "task": "chat" if run.is_chat else "reward",
    }
    compared = plan_comparison(
        training, setup.model, setup.tokenizer, data["validation"], needs_validation=True
    )
    return replace(run, summarize=lambda trained: run.summarize(trained) | figures, comparison=compared)
