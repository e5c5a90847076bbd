"""Distillation: a student is trained on its teacher's probabilities.

The task is that of the data (conversations, text, or masked text for an encoder) with the teacher's probabilities in the
loss. The doctor examines data, student and batches as for that task, and also the teacher and the loss.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from parakit.checkpoints.loading import load_model, read_config
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, sha256_file
from parakit.common.progress import log, progress
from parakit.common.seeds import seed_everything
from parakit.compression.config import DistillConfig, DistillObjective, OnPolicy
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
from parakit.stages.defaults.published import PUBLISHED_FACTORS, is_published, tuning_config, tuning_sizing
from parakit.stages.job import PreparedRun
from parakit.stages.plans import resolve_plan
from parakit.stages.run_dir import load_plan, save_plan
from parakit.stages.task_models import build_model, warn_own_layout
from parakit.stages.tasks import Splits, TaskBuilder, task_settings
from parakit.tokens.chat.template import stop_ids
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import doctor
from parakit.training.config import TrainingPlan
from parakit.training.doctor.setup import TrainingSetup, check_seconds
from parakit.training.pace import TimeBudget
from parakit.training.row_sources import RowSource
from parakit.training.tasks import TaskSettings, TrainingTask


@dataclass(frozen=True)
class DistillJob:
    """Distill `teacher` on `shards`. `logits`: a folder of the teacher's cached logits, which is written if it does not
    exist; None: in the run directory, if `cache_top_k` is set.
    """

    teacher: Path
    shards: Path
    work: Path
    training: DistillConfig
    logits: Path | None = None
    budget: TimeBudget | None = field(default=None, compare=False)

    def inputs(self) -> list[Path]:
        """Teacher, shards, and the student's folder."""
        student = self.training.student
        return [self.teacher, self.shards, *([Path(student)] if student else [])]

    def to_spec(self) -> JsonObject:
        """The time; the settings name the student."""
        return self.budget.to_spec() if self.budget else {}

    def prepare(self, run_dir: Path) -> PreparedRun:
        """The teacher, and the student as it is before the first step."""
        splits = Splits.of_text(self.shards, read_config(self.teacher).family)
        teacher, tokenizer = _load_teacher(self, splits)
        objective = infer_objective(splits)
        if self.training.objective not in (None, objective):
            raise UserError(
                f"objective = {self.training.objective}, and the data {self.shards} are for {objective}",
                "remove it",
            )
        if objective != "chat" and "too_long" in self.training.model_fields_set:
            raise UserError(
                f"too_long is for conversations, and {self.shards} are text, which is read in windows",
                "remove it",
            )
        saved = load_plan(run_dir)
        config = saved[0] if saved else _student_config(self, teacher)
        plan = saved[1] if saved else _plan(self, config, splits)
        save_plan(run_dir, config, plan)
        seed_everything(plan.seed)
        student = _student(self, teacher, tokenizer, config).to(pick_device(self.training.device))
        builder = TaskBuilder(objective, splits, student.config, tokenizer, task_settings(self.training))
        task = builder.build(plan)
        setup = _with_teacher(
            self, teacher, TrainingSetup("distill", student, tokenizer, task, plan, run_dir)
        )
        is_chat = objective == "chat"
        settings = {"distillation": self.training.model_dump(mode="json")}

        def summarize(figures: JsonObject) -> JsonObject:
            figures |= _compare(student, teacher, task)
            return figures | ({"task": "chat"} if is_chat else {})

        return PreparedRun("distill", objective, setup, self.inputs(), is_chat, settings, summarize)


def infer_objective(splits: Splits) -> DistillObjective:
    """The objective that these shards were encoded for."""
    assert isinstance(splits.train, TokenShards)
    if splits.train.family == "encoder":
        return "masked"
    return "next_token" if splits.train.loss_mask is None else "chat"


def _load_teacher(job: DistillJob, splits: Splits) -> tuple[Teacher, Tokenizer]:
    """The teacher and its tokenizer, which must be the data's."""
    model, tokenizer = load_model(job.teacher, pick_device(job.training.device), "float32")
    if not isinstance(model, LanguageModel | MaskedLanguageModel):
        raise UserError(
            f"{job.teacher}: a {type(model).__name__} predicts no tokens of a text, so it cannot be a teacher",
            "take a decoder or an encoder that fills masks; tune the student for its task afterwards",
        )
    assert isinstance(splits.train, TokenShards)
    data_digest, teacher_digest = splits.train.tokenizer_digest, tokenizer.digest if tokenizer else "none"
    if tokenizer is None or data_digest != teacher_digest:
        raise UserError(
            f"the teacher {job.teacher} and the data {job.shards} have different tokenizers: digests"
            f" {teacher_digest[:12]} and {data_digest[:12]}",
            "encode the text again with the teacher's tokenizer: parakit tokenizer encode, or --conversations",
        )
    return Teacher(model), tokenizer


def _plan(job: DistillJob, config: ModelConfig, splits: Splits) -> TrainingPlan:
    is_new = job.training.size is not None
    if not is_published(job.teacher):
        return resolve_plan(job.training, default_hyperparameters(config), splits.train, tuning=not is_new)
    if is_new:  # its own rates, and rows as the data asks for
        sizing = replace(default_hyperparameters(config), is_published=True)
        return resolve_plan(job.training, sizing, splits.train)
    sizing, factor = tuning_sizing(job.teacher, config), PUBLISHED_FACTORS["distill"]
    rate = sizing.learning_rate * factor
    sizing = replace(sizing, learning_rate=rate, embedding_learning_rate=rate)
    return resolve_plan(tuning_config(job.teacher, job.training), sizing, splits.train, tuning=True)


def _student_config(job: DistillJob, teacher: Teacher) -> ModelConfig:
    """The student's config. `UserError` where it is no smaller than the teacher's, unless that is allowed."""
    spec, teacher_config = job.training, teacher.model.config
    if spec.student is not None:
        config: ModelConfig = read_config(spec.student)
    elif spec.size is not None:
        config = config_for_size(
            spec.size, teacher_config.vocab_size, teacher_config.max_seq_len, teacher_config.family
        ).config
    else:
        config = config_from_layers(teacher_config, spec.keep_layers or -(-teacher_config.n_layers // 2))
    warn_own_layout(config)
    n_student, n_teacher = config.n_params()["total"], teacher_config.n_params()["total"]
    if n_student >= n_teacher and not spec.may_be_larger:
        raise UserError(
            f"the student would have {n_student:,} parameters, and its teacher {job.teacher} has {n_teacher:,}",
            "set a smaller --size or fewer --keep-layers, or pass --may-be-larger",
        )
    if job.training.hidden_coef and config.d_model != teacher_config.d_model:
        raise UserError(
            f"hidden_coef = {job.training.hidden_coef} compares vectors, and the student's have {config.d_model}"
            f" features, the teacher's {teacher_config.d_model}",
            "keep layers of the teacher (--keep-layers), or leave hidden_coef at 0",
        )
    log(
        f"distill: a student of {n_student:,} parameters, {n_student / n_teacher:.0%} of its teacher's {n_teacher:,}"
    )
    return config


def _student(job: DistillJob, teacher: Teacher, tokenizer: Tokenizer, config: ModelConfig) -> Predictor:
    """The student with its initial weights."""
    if job.training.student is not None:
        student, own = load_model(job.training.student, dtype="float32")
        names = str(job.teacher), job.training.student
        if own is not None:
            check_same_vocabulary(tokenizer, own, *names)
        check_same_outputs(teacher.model, student, *names)  # type: ignore[arg-type]
    elif job.training.size is not None:
        student = build_model(config)
    else:
        student = student_from_layers(teacher.model, config.n_layers)
    assert isinstance(student, LanguageModel | MaskedLanguageModel)
    return student


def _with_teacher(job: DistillJob, teacher: Teacher, setup: TrainingSetup) -> TrainingSetup:
    """`setup` with the teacher in its loss, and in the doctor's checks."""
    training, task, student = job.training, setup.task, setup.model
    assert isinstance(student, LanguageModel | MaskedLanguageModel)
    source: Any = task.source
    cached = training.cache_top_k is not None or job.logits is not None
    _check_cache(training, cached)
    if cached:
        source = CachedLogitsSource(source, _teacher_logits(job, teacher, setup))
    objective = distillation(None if cached else teacher, training)
    checked: RowSource = source

    def check_teacher() -> list[doctor.CheckResult]:
        return check_distillation(
            student,
            teacher,
            objective,
            checked,
            setup.tokenizer,
            setup.plan,
            task.spec,
            check_seconds(setup),
        )

    if on_policy := part_of(training, OnPolicy):
        assert isinstance(student, LanguageModel)
        source = OnPolicyDistillationSource(
            source,
            student,
            stop_ids(setup.tokenizer),
            share=training.on_policy_share,
            sampling=SamplingConfig(
                temperature=on_policy.rollout_temperature, max_new_tokens=on_policy.max_new_tokens
            ),
        )
    spec = replace(task.spec, name="distill", all_tokens_predicted=False)
    distilled = replace(task, spec=spec, source=source, objective=objective)
    return replace(setup, task=distilled, checked_task=task, more_checks=check_teacher)


def _check_cache(training: DistillConfig, cached: bool) -> None:
    """A cache holds the teacher's logits of the data's rows, and nothing else of the teacher."""
    for key in ("on_policy_share", "hidden_coef"):
        if cached and getattr(training, key):
            raise UserError(
                f"{key} = {getattr(training, key)} runs the teacher at every step, and its logits are cached",
                f"leave out cache_top_k and the folder of logits, or {key}",
            )


def _teacher_logits(job: DistillJob, teacher: Teacher, setup: TrainingSetup) -> TeacherLogits:
    """The teacher's logits, computed now where the folder does not exist."""
    vocab_size, path = teacher.model.config.vocab_size, job.logits or setup.run_dir / "teacher_logits"
    defaults, settings = asdict(TaskSettings()), asdict(task_settings(job.training))
    changed = {name: value for name, value in settings.items() if value != defaults[name]}
    spec = TeacherLogitsSpec(
        teacher=_digest(job.teacher),
        data=_digest(job.shards),
        rows=f"{setup.task.spec.name} {changed or ''}".strip(),
        seed=setup.plan.seed,
        seq_len=setup.plan.seq_len,
        top_k=min(job.training.cache_top_k or 32, vocab_size),
        distill_temperature=job.training.distill_temperature,
    )
    if not path.exists():
        parents = [parent for parent in (job.teacher, job.shards) if (parent / LINEAGE).is_file()]
        source: Any = setup.task.source
        with progress("teacher", int(source.rows_per_epoch), "rows") as bar:
            write_teacher_logits(path, teacher, source, spec, parents, bar.advance)
    return TeacherLogits(path, spec)


def _digest(path: Path) -> str:
    """The digest of an artifact, or those of the weight files of a published model."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    return " ".join(sha256_file(file) for file in sorted(path.glob("*.safetensors")))


def _compare(student: Predictor, teacher: Teacher, task: TrainingTask) -> JsonObject:
    """The teacher's metrics on the validation split, and the share of its parameters that the student has."""
    metrics = task.validate(teacher.model)
    n_student, n_teacher = (model.config.n_params()["total"] for model in (student, teacher.model))
    return {
        "teacher": metrics | {"parameters": n_teacher},
        "share_of_parameters": n_student / n_teacher,
    }
