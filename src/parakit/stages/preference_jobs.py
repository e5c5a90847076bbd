"""Alignment by preferences: a reward model, and a policy tuned by DPO and its kin, on the one training loop.

Both read a folder of preferences, encode it through the model's own chat template, and start from a tuned decoder.
What the reference says to every completion is computed once, before training, and kept with the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parakit.alignment.config import AlignConfig, DPOConfig, RewardConfig, SmoothedMargins
from parakit.alignment.preferences.dpo import PreferenceObjective, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective
from parakit.checkpoints.model_folder import load_model, save_model
from parakit.common.artifacts import LINEAGE, Lineage
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.progress import log, progress
from parakit.common.seeds import seed_everything
from parakit.data.preferences.sets import iter_preferences
from parakit.evaluation.preferences import preference_report, score_rankings
from parakit.inference.capabilities import require_capability
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel, Model, RewardModel
from parakit.model.layers.masks import supports_prefix_tree
from parakit.model.presets import default_hyperparameters
from parakit.reports.model_card import stage_card
from parakit.stages.run_dir import load_plan, run_directory, save_plan
from parakit.stages.running import TrainingInputs, chart_rows, describe_plan, run_training
from parakit.stages.task_models import build_model, copy_matching_weights, with_dropout
from parakit.stages.tasks import VALIDATION_SEED, VALIDATION_TOKENS, Lesson
from parakit.tokens.preferences.encoding import EncodedRankings, encode_rankings
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan, resolve_examples
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.validation import one_epoch, validation_loss

if TYPE_CHECKING:
    from parakit.stages.alignment import AlignJob

REWARD_RATE_SHARE, DPO_RATE_SHARE = 0.25, 0.025  # of what pre-training takes; see docs/log.md, 2026-11-25
REWARD_EPOCHS, DPO_EPOCHS = 2.0, 1.0
BATCH_RANKINGS, LEAST_RANKINGS = 32, 4
LEAST_STEPS = 16  # an epoch, as far as there are rankings for it: a small set is learned in smaller batches
SPLITS = ("train", "validation")


def train_reward_model(job: AlignJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Train a reward model on rankings and write it to the model folder `out`; returns the figures."""
    config = job.training
    assert isinstance(config, RewardConfig)

    def lesson(run: _Run) -> Lesson:
        settings = (config.margin, config.row_margins, config.reward_centering_coef)
        objective = RewardObjective(*settings)
        return run.lesson(objective, RewardObjective(), "nats per ranking")

    return _run(job, out, overwrite, _reward_model, lesson, (REWARD_RATE_SHARE, REWARD_EPOCHS))


def tune_on_preferences(job: AlignJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Tune a policy on rankings (DPO, IPO, SimPO) and write it to the model folder `out`; returns the figures."""
    config = job.training
    assert isinstance(config, DPOConfig)
    smoothing, margins = 0.0, (0.0, False)
    if isinstance(config, SmoothedMargins):
        smoothing, margins = config.label_smoothing, (config.margin, config.row_margins)

    def lesson(run: _Run) -> Lesson:
        loss = config.preference_loss
        objective, plain = (
            PreferenceObjective(loss, config.kl_coef, label_smoothing, *margins)
            for label_smoothing in (smoothing, 0.0)
        )
        if loss != "simpo":
            run.add_reference()
        unit = "squared nats per ranking" if loss == "ipo" else "nats per ranking"
        return run.lesson(objective, plain, unit)

    return _run(job, out, overwrite, _policy, lesson, (DPO_RATE_SHARE, DPO_EPOCHS))


@dataclass
class _Run:
    """A model, the preferences it learns from, and under which plan."""

    kind: str
    model: Any
    base: LanguageModel
    data: dict[str, EncodedRankings]
    plan: TrainingPlan
    work: Path
    references: dict[str, np.ndarray]

    def add_reference(self) -> None:
        """What the model says before it is trained, or what it said when this run was begun."""
        for split in SPLITS:
            path = self.work / f"reference.{split}.npy"
            if path.exists():
                self.references[split] = np.load(path, allow_pickle=False)
                continue
            with progress("reference", self.data[split].n_examples, "rankings") as bar:
                self.references[split] = reference_log_probs(self.base, self._source(split), bar.advance)
            np.save(path, self.references[split])

    def lesson(self, objective: Any, plain: Any, loss_unit: str) -> Lesson:
        """What `objective` teaches; held-out rankings are judged by the `plain` one, whose loss can be compared."""
        held_out = self._source("validation")
        n_rows = max(1, VALIDATION_TOKENS // (2 * self.plan.seq_len))

        def measure(model: Model) -> dict[str, Any]:
            plain.metrics.pop()
            loss = validation_loss(model, one_epoch(held_out, n_rows), plain).loss
            return {"loss": loss} | plain.metrics.pop()

        return Lesson(
            kind=self.kind,
            source=self._source("train"),
            data=self.data["train"],
            objective=objective,
            loss_unit=loss_unit,
            measure=measure,
            unit="rankings",
            step_figures=objective.metrics.pop,
            secondary_metric="accuracy",
        )

    def _source(self, split: str) -> PreferenceSource:
        seed = self.plan.seed if split == "train" else VALIDATION_SEED
        reference = self.references.get(split)
        share = supports_prefix_tree(self.base.config)
        return PreferenceSource(
            self.data[split], seed, reference, n_rows_hint=self.plan.n_rows, share_prompts=share
        )


def _run(
    job: AlignJob,
    out: Path,
    overwrite: bool,
    made: Callable[[LanguageModel, AlignConfig], Any],
    lesson_of: Callable[[_Run], Lesson],
    defaults: tuple[float, float],
) -> dict[str, Any]:
    """Load, encode, train, save. `made` makes of the base the model that is trained; `defaults` are the share of
    pre-training's learning rate, and the epochs, where nothing else was said.
    """
    parents, method = [job.model, job.data], job.method
    with run_directory(job.work, job.training, parents, {"method": method}) as work:
        base, tokenizer = _loaded(job)
        data = _encoded(job, tokenizer, base.config.max_seq_len)
        kept = load_plan(work)
        plan = kept[1] if kept else _plan(job.training, base, data["train"], *defaults)
        save_plan(work, base.config, plan)
        seed_everything(plan.seed)
        run = _Run(method, made(base, job.training), base, data, plan, work, {})
        lesson = lesson_of(run)
        log(f"{method}: {describe_plan(plan, lesson.unit)}")
        inputs = TrainingInputs(method, run.model, tokenizer, lesson, plan, work)
        before = lesson.measure(run.model)
        figures = run_training(inputs) | chart_rows(work) | {"before": before}
        if isinstance(run.model, RewardModel):  # as `parakit evaluate --preferences` judges it
            held_out = data["validation"]
            figures["reward_eval"] = preference_report(score_rankings(run.model, held_out), held_out)
        figures |= {"method": method, "rankings": data["train"].n_examples}
        figures |= {"task": "reward" if method == "reward" else "chat"}
        figures |= {"truncated_prompts": data["train"].n_truncated, "skipped_rows": data["train"].n_skipped}
        _save(job, run, tokenizer, out, overwrite, figures)
    return figures


def _loaded(job: AlignJob) -> tuple[LanguageModel, Tokenizer]:
    """A decoder in float32, and its tokenizer; `UserError` where it cannot be asked."""
    base, tokenizer = load_model(job.model, pick_device(job.training.device), "float32")
    require_capability(base, "generate")
    assert isinstance(base, LanguageModel)
    if tokenizer is None or tokenizer.chat_template is None:
        raise UserError(
            f"{job.model}: has no chat template, so preferences cannot be read",
            "align a model tuned for chat",
        )
    return base, tokenizer


def _encoded(job: AlignJob, tokenizer: Tokenizer, max_seq_len: int) -> dict[str, EncodedRankings]:
    seq_len = min(job.training.seq_len or max_seq_len, max_seq_len)
    with progress("preferences", unit="rankings") as bar:
        data = {
            split: encode_rankings(tokenizer, iter_preferences(job.data, split), seq_len, progress=bar)
            for split in SPLITS
        }
    n_truncated, n_skipped = (
        sum(getattr(one, name) for one in data.values()) for name in ("n_truncated", "n_skipped")
    )
    if n_truncated or n_skipped:
        log(
            f"{job.method}: of rows of {seq_len} tokens, {n_truncated} prompts were cut on the left and {n_skipped}"
            " rankings left out"
        )
    return data


def _plan(
    training: AlignConfig, base: LanguageModel, data: EncodedRankings, rate_share: float, epochs: float
) -> TrainingPlan:
    dial = default_hyperparameters(base.config)
    return resolve_examples(
        training,
        learning_rate=dial.learning_rate * rate_share,
        embedding_learning_rate=dial.embedding_learning_rate * rate_share,
        max_seq_len=base.config.max_seq_len,
        n_train_examples=data.n_examples,
        batch_examples=max(LEAST_RANKINGS, min(BATCH_RANKINGS, data.n_examples // LEAST_STEPS)),
        default_epochs=epochs,
    )


def _reward_model(base: LanguageModel, training: AlignConfig) -> RewardModel:
    shape = with_dropout(base.config, training.dropout)
    assert isinstance(shape, DecoderConfig)
    model = RewardModel(shape)
    copy_matching_weights(model, base)
    return model


def _policy(base: LanguageModel, training: AlignConfig) -> Model:
    """A model of its own, so that the base stays what it is: the reference is taken from there."""
    model = build_model(with_dropout(base.config, training.dropout))
    copy_matching_weights(model, base)
    return model


def _save(
    job: AlignJob, run: _Run, tokenizer: Tokenizer, out: Path, overwrite: bool, figures: dict[str, Any]
) -> None:
    is_policy = job.method != "reward"
    config: dict[str, Any] = {"stage": "align", "learned": job.method, "chat": is_policy}
    config |= {"plan": run.plan.model_dump(mode="json")}
    parents = [path for path in (job.model, job.data) if (path / LINEAGE).is_file()]
    lineage = Lineage("model", config, list(parents), run.plan.seed, figures)
    card = stage_card(out.resolve().parent.name, "align", figures)
    logs = [run.work / METRICS, run.work / EVENTS]
    save_model(run.model, tokenizer, out, lineage, overwrite, card=card, logs=logs)
    log(f"{job.method}: written to {out}")
