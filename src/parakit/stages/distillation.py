"""Distillation as a stage: a teacher's folder and data in, the folder of a smaller model out.

The lesson is that of the underlying stage (conversations, text, or masked text for an encoder) with the teacher's
probabilities in the loss; its data, student and batches are examined as there, the teacher and the loss besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parakit.checkpoints.model_folder import load_model, read_config, save_model
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.progress import log, progress
from parakit.common.seeds import seed_everything
from parakit.compression.config import DistillConfig, Masking, OnPolicy
from parakit.compression.config import DistillObjective as Learned
from parakit.compression.distillation.checks import (
    check_distillation,
    check_same_outputs,
    check_same_vocabulary,
)
from parakit.compression.distillation.losses import distillation
from parakit.compression.distillation.on_policy import OnPolicyDistillationSource
from parakit.compression.distillation.students import config_from_layers, student_from_layers
from parakit.compression.distillation.teacher import Predictor, Teacher
from parakit.compression.distillation.teacher_logits import (
    CachedLogitsSource,
    TeacherLogits,
    TeacherLogitsSpec,
    write_teacher_logits,
)
from parakit.inference.config import SamplingConfig
from parakit.model.config import ModelConfig
from parakit.model.heads import LanguageModel, MaskedLanguageModel
from parakit.model.presets import config_for_size, default_hyperparameters
from parakit.reports.model_card import stage_card
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.plans import resolve_plan
from parakit.stages.run_dir import load_plan, run_directory, save_plan
from parakit.stages.running import TrainingInputs, chart_rows, describe_plan, run_training, spec_of
from parakit.stages.task_models import build_model, check_can_be_saved
from parakit.stages.tasks import Lesson, Splits, TaskBuilder
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan
from parakit.training.metrics import EVENTS, METRICS


@dataclass(frozen=True)
class DistillJob:
    """What a person says about distilling `teacher` on `shards`. `logits` is the folder of the teacher's answers, read
    where it exists and written where it does not; None: beside the checkpoints, where a cache is asked for.
    """

    teacher: Path
    shards: Path
    work: Path
    training: DistillConfig
    logits: Path | None = None


@dataclass(frozen=True)
class _Run:
    """Both sides, what is learned, and under which plan."""

    teacher: Teacher
    student: Predictor
    tokenizer: Tokenizer
    lessons: TaskBuilder
    plan: TrainingPlan


def distill(job: DistillJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Train a student on its teacher's probabilities and write it to the model folder `out`; returns the figures."""
    parents = [job.teacher, job.shards, *([Path(job.training.student)] if job.training.student else [])]
    splits = Splits.of_text(job.shards, read_config(job.teacher).family)
    with run_directory(job.work, job.training, parents, {}) as work:
        run = _begun(job, splits, work)
        plain = run.lessons.under(run.plan)
        log(f"distill: {describe_plan(run.plan, plain.unit)}")
        inputs = _with_teacher(job, run, plain, work)
        figures = run_training(inputs) | chart_rows(work) | _against_teacher(run, plain)
        if run.lessons.learned == "chat":
            figures["task"] = "chat"
        config: dict[str, Any] = {
            "stage": "distill",
            "learned": run.lessons.learned,
            "chat": run.lessons.learned == "chat",
        }
        config |= {"distillation": job.training.model_dump(mode="json")}
        config |= {"plan": run.plan.model_dump(mode="json")}
        known = [parent for parent in parents if (parent / LINEAGE).is_file()]
        lineage = Lineage("model", config, list(known), run.plan.seed, figures)
        card = stage_card(out.resolve().parent.name, "distill", figures)
        logs = [work / METRICS, work / EVENTS]
        save_model(run.student, run.tokenizer, out, lineage, overwrite, card=card, logs=logs)
    return figures


def _begun(job: DistillJob, splits: Splits, work: Path) -> _Run:
    """The teacher, and the student as it is before the first step."""
    device, name = pick_device(job.training.device), str(job.teacher)
    model, tokenizer = load_model(job.teacher, device, "float32")
    if not isinstance(model, LanguageModel | MaskedLanguageModel):
        raise UserError(
            f"{name}: a {type(model).__name__} predicts no tokens of a text, so there is nothing to learn from it",
            "take a decoder or an encoder that fills masks; tune the student for its task afterwards",
        )
    _check_tokenizer(job, tokenizer, splits)
    assert tokenizer is not None
    teacher, learned = Teacher(model), infer_objective(splits)
    if job.training.objective not in (None, learned):
        raise UserError(
            f"objective = {job.training.objective}, and the data {job.shards} are for {learned}",
            "take it out",
        )
    kept = load_plan(work)
    shape = kept[0] if kept else _shape(job, teacher)
    tuning = job.training.size is None
    plan = (
        kept[1]
        if kept
        else resolve_plan(job.training, default_hyperparameters(shape), splits.train, tuning=tuning)
    )
    save_plan(work, shape, plan)
    seed_everything(plan.seed)
    student = _student(job, teacher, tokenizer, shape).to(device)
    lessons = TaskBuilder(learned, splits, student.config, tokenizer, _as_underlying(job.training, learned))
    return _Run(teacher, student, tokenizer, lessons, plan)


def _check_tokenizer(job: DistillJob, tokenizer: Tokenizer | None, splits: Splits) -> None:
    """Ids of the data must be the teacher's own."""
    assert isinstance(splits.train, TokenShards)
    theirs, ours = splits.train.tokenizer_digest, tokenizer.digest if tokenizer else "none"
    if theirs != ours:
        raise UserError(
            f"the teacher {job.teacher} and the data {job.shards} have different tokenizers: digests"
            f" {ours[:12]} and {theirs[:12]}",
            "encode the text again with the teacher's tokenizer: parakit tokenizer encode, or --conversations",
        )


def infer_objective(splits: Splits) -> Learned:
    """What the underlying stage would learn from these shards."""
    assert isinstance(splits.train, TokenShards)
    if splits.train.family == "encoder":
        return "masked"
    return "next_token" if splits.train.loss_mask is None else "chat"


def _as_underlying(training: DistillConfig, learned: Learned) -> PretrainConfig | FinetuneConfig:
    """Of the settings those that the underlying stage reads."""
    if learned == "chat":
        return FinetuneConfig()
    if isinstance(training, Masking):
        return PretrainConfig.parse(
            {"objective": learned, "noise_rate": training.noise_rate, "whole_word": training.whole_word}
        )
    return PretrainConfig(objective=learned)


def _shape(job: DistillJob, teacher: Teacher) -> ModelConfig:
    """The student's. `UserError` where it is no smaller than the teacher's, unasked."""
    wanted, theirs = job.training, teacher.model.config
    if wanted.student is not None:
        shape: ModelConfig = read_config(wanted.student)
    elif wanted.size is not None:
        shape = config_for_size(wanted.size, theirs.vocab_size, theirs.max_seq_len, theirs.family).config
    else:
        shape = config_from_layers(theirs, wanted.keep_layers or -(-theirs.n_layers // 2))
    check_can_be_saved(shape)
    n_ours, n_theirs = shape.n_params()["total"], theirs.n_params()["total"]
    if n_ours >= n_theirs and not wanted.may_be_larger:
        raise UserError(
            f"the student would have {n_ours:,} parameters, and its teacher {job.teacher} has {n_theirs:,}",
            "ask for a smaller --size or fewer --keep-layers, or pass --may-be-larger",
        )
    if job.training.hidden_coef and shape.d_model != theirs.d_model:
        raise UserError(
            f"hidden_coef = {job.training.hidden_coef} compares vectors, and the student's have {shape.d_model}"
            f" features, the teacher's {theirs.d_model}",
            "keep layers of the teacher (--keep-layers), or leave hidden_coef at 0",
        )
    log(f"distill: a student of {n_ours:,} parameters, {n_ours / n_theirs:.0%} of its teacher's {n_theirs:,}")
    return shape


def _student(job: DistillJob, teacher: Teacher, tokenizer: Tokenizer, shape: ModelConfig) -> Predictor:
    """With the weights that it begins with."""
    if job.training.student is not None:
        student, own = load_model(job.training.student, dtype="float32")
        names = str(job.teacher), job.training.student
        if own is not None:
            check_same_vocabulary(tokenizer, own, *names)
        check_same_outputs(teacher.model, student, *names)  # type: ignore[arg-type]
    elif job.training.size is not None:
        student = build_model(shape)
    else:
        student = student_from_layers(teacher.model, shape.n_layers)
    assert isinstance(student, LanguageModel | MaskedLanguageModel)
    return student


def _with_teacher(job: DistillJob, run: _Run, plain: Lesson, work: Path) -> TrainingInputs:
    """The underlying lesson with the teacher in it."""
    training, source = job.training, plain.source
    cached = training.cache_top_k is not None or job.logits is not None
    _check_cache(training, cached)
    if cached:
        source = CachedLogitsSource(source, _teacher_logits(job, run, source, work))
    objective = distillation(None if cached else run.teacher, training)
    checked = source

    def further_checks() -> list[doctor.CheckResult]:
        spec = spec_of(plain.kind, run.student)
        return check_distillation(run.student, run.teacher, objective, checked, run.tokenizer, run.plan, spec)

    if isinstance(training, OnPolicy):
        source = _on_policy(training, run, source)
    lesson = replace(plain, kind="distill", source=source, objective=objective)
    return TrainingInputs(
        "distill", run.student, run.tokenizer, lesson, run.plan, work, plain, further_checks
    )


def _on_policy(training: DistillConfig, run: _Run, source: Any) -> OnPolicyDistillationSource:
    assert isinstance(run.student, LanguageModel)
    sampling = SamplingConfig(
        temperature=training.rollout_temperature, max_new_tokens=training.max_new_tokens
    )
    ends = stop_ids(run.tokenizer)
    return OnPolicyDistillationSource(
        source, run.student, ends, share=training.on_policy_share, sampling=sampling
    )


def _check_cache(training: DistillConfig, cached: bool) -> None:
    """A cache holds the answers to the data's rows, and nothing else of the teacher."""
    for key in ("on_policy_share", "hidden_coef"):
        if cached and getattr(training, key):
            raise UserError(
                f"{key} = {getattr(training, key)} asks the teacher at every step, and a cache of its answers is set",
                f"leave out cache_top_k and the folder of its answers, or {key}",
            )


def _teacher_logits(job: DistillJob, run: _Run, source: Any, work: Path) -> TeacherLogits:
    """The teacher's answers, asked now where nobody has asked before."""
    vocab_size, path = run.teacher.model.config.vocab_size, job.logits or work / "teacher_logits"
    underlying = run.lessons.training.model_dump(mode="json", exclude_defaults=True)
    spec = TeacherLogitsSpec(
        teacher=_digest(job.teacher),
        data=_digest(job.shards),
        rows=f"{run.lessons.learned} {underlying or ''}".strip(),
        seed=run.plan.seed,
        seq_len=run.plan.seq_len,
        top_k=min(job.training.cache_top_k or 32, vocab_size),
        distill_temperature=job.training.distill_temperature,
    )
    if not path.exists():
        known = [parent for parent in (job.teacher, job.shards) if (parent / LINEAGE).is_file()]
        with progress("teacher", int(source.rows_per_epoch), "rows") as bar:
            write_teacher_logits(path, run.teacher, source, spec, known, bar.advance)
    return TeacherLogits(path, spec)


def _digest(path: Path) -> str:
    """Of an artifact; of a foreign model's folder the sums of its weights."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    from parakit.common.files import sha256_file

    return " ".join(sha256_file(file) for file in sorted(path.glob("*.safetensors")))


def _against_teacher(run: _Run, plain: Lesson) -> dict[str, Any]:
    """What the student has kept: both sides' figures on what was held out."""
    theirs = plain.measure(run.teacher.model)
    n_ours, n_theirs = (model.config.n_params()["total"] for model in (run.student, run.teacher.model))
    return {"teacher": theirs | {"parameters": n_theirs}, "share_of_parameters": n_ours / n_theirs}
