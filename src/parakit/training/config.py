"""Settings of a training run, and the plan that they resolve to. Imports no torch.

`TrainingConfig` is what a person writes; most of it may be left open. `resolve` fills what is open (from the model's
size, the data, the time) and returns a `TrainingPlan`, in which nothing is open any more. Rows of text are counted in tokens
(`resolve`), rows that are examples of a task in examples (`resolve_examples`).
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from parakit.common.choices import ChoiceConfig, part_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Choices, Config
from parakit.tokens.config import LongRowSettings
from parakit.training.monitoring.settings import MonitoringSettings
from parakit.training.parallel.settings import PLACES, PlacementSettings
from parakit.training.plan import OptimizerName, Revisions, ScheduleName
from parakit.training.plan import TrainingPlan as TrainingPlan
from parakit.training.task_names import MASK_RATE

WITHOUT_EFFECT = {"keep_checkpoints", "tracker", *PLACES}  # on what a run makes


class AdamBetas(Config):
    """What optimizers with a second moment read."""

    adam_betas: tuple[float, float] = Field(
        default=(0.9, 0.95), description="Decay rates of Adam's two moments."
    )


class MuonConfig(AdamBetas):
    """What only Muon reads."""

    embedding_learning_rate: float | None = Field(
        default=None, gt=0, description="Learning rate of embeddings, head and norms, which Adam updates."
    )
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Momentum of Muon.")


class SGDConfig(Config):
    """What only SGD reads."""

    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD.")


class Decay(Config):
    """What a schedule whose rate falls reads."""

    final_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Learning rate at the last step, as a fraction of learning_rate."
    )


class StableDecay(Decay):
    """What wsd (warm up, stay, decay) reads."""

    decay_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Last fraction of the steps, in which the learning rate falls linearly.",
    )


class Batches(Config):
    """Batches that may grow."""

    batch_growth: int = Field(
        default=1,
        ge=1,
        description="The first batch is this many times smaller; it "
        "doubles in stages over the first half of the run.",
    )


class TextBatches(Batches):
    """Rows of text, counted in tokens."""

    batch_tokens: int | None = Field(
        default=None, ge=2, description="Tokens per optimizer step. Default: by size; fewer in a short time."
    )
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens to train on.")


class ExampleBatches(Batches, LongRowSettings):
    """Rows that are examples of a task, or rankings."""

    batch_examples: int | None = Field(default=None, ge=1, description="Examples per optimizer step.")


class Masking(Config):
    """Masked language modelling."""

    noise_rate: float = Field(
        default=MASK_RATE, gt=0, lt=1, description="Fraction of a text's tokens that are masked."
    )
    whole_word: bool = Field(default=False, description="Mask all tokens of a word together.")


class ComparedAnswers(Config):
    """Prompts of the validation data that are answered before the first step and after the last."""

    n_compared_prompts: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Validation prompts that are answered before and after training.",
    )
    max_compared_tokens: int = Field(
        default=32, ge=1, le=512, description="Length limit of these answers in tokens."
    )


class BeforeAfter(Config):
    """Of a run that tunes a trained model: what is measured on both sides of it."""

    choices: ClassVar[Choices] = {"before_after": {"all": ComparedAnswers}}

    before_after: Literal["all", "losses", "none"] = Field(
        default="all",
        description="What is measured before and after training: losses on held-out data and on a general text, and"
        " answers to held-out prompts (all), the losses only, or nothing.",
    )


class TrainingConfig(ChoiceConfig, MonitoringSettings, PlacementSettings):
    """How to train. None means: chosen from the size, the data and the time."""

    choices: ClassVar[Choices] = {
        "optimizer": {
            **{"muon": MuonConfig, "sgd": SGDConfig},
            **dict.fromkeys(("adamw", "adam", "schedule_free"), AdamBetas),
        },
        "schedule": {"wsd": StableDecay, "linear": Decay, "cosine": Decay, "inverse_sqrt": Decay},
    }

    seq_len: int | None = Field(
        default=None,
        ge=2,
        description="Tokens per row; of examples, the most. Default: the model's max_seq_len, for a published"
        " model what its data needs.",
    )
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="Rows per forward pass. Default: the whole batch."
    )
    max_steps: int | None = Field(
        default=None, ge=1, description="Optimizer steps. Default: from max_tokens, epochs or the time."
    )
    epochs: float | None = Field(default=None, gt=0, description="Passes over the training split.")
    revisions: Revisions | None = Field(
        default=None,
        description="Repeats a run that a time bounded, instead of max_steps: the steps after which its length was planned,"
        " that length, and its threads, as `parakit show` lists them.",
    )
    optimizer: OptimizerName = Field(
        default="muon",
        description="muon: Muon for matrices, Adam for the rest; adamw: AdamW for all, the default for a"
        " published model; adam: weight decay in the gradient; sgd: with momentum; schedule_free: AdamW whose weights are an"
        " average over the steps, with a constant rate.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate; with muon, of the matrices."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="Weight decay of matrices; norms and embeddings have none."
    )
    schedule: ScheduleName = Field(
        default="wsd",
        description="Learning-rate schedule after the warm-up; wsd: stay, then decay; linear and cosine: decay from the"
        " first step on; of schedule_free: constant.",
    )
    warmup_steps: int = Field(
        default=10, ge=0, description="Steps in which the learning rate rises linearly."
    )
    grad_clip: float = Field(default=1.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    seed: int = Field(default=0, description="Seed of the data order, new weights and dropout.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="dtype of the forward pass; auto: bfloat16 where the hardware computes it fast; on a CPU that is"
        " timed, for a published model.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="torch.compile; auto: where it saves time."
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Compute each block again in the backward pass instead of keeping its activations: a third more"
        " time for a fraction of the memory; auto: for adapters on a quantized model, and where a published model would not"
        " fit without.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    validate_every: int | None = Field(
        default=None, ge=1, description="Steps between validations. Default: eight validations in the run."
    )
    save_every: int | None = Field(
        default=None, ge=1, description="Steps between checkpoints. Default: about one a minute."
    )

    @field_validator("compile", "gradient_checkpointing", mode="before")
    @classmethod
    def _yaml_words(cls, value: Any) -> Any:
        """`on` and `off` are True and False to YAML."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fitting_optimizer(self) -> Self:
        given = self.model_fields_set
        if self.optimizer == "schedule_free" and "schedule" in given and self.schedule != "constant":
            raise UserError(
                f"schedule = {self.schedule} is set, and schedule_free averages instead of decaying the rate",
                "remove it, or choose another optimizer",
            )
        return self

    @model_validator(mode="after")
    def _checkpointed(self) -> Self:
        if self.checkpoint_every > 1 and self.gradient_checkpointing == "off":
            raise UserError(
                f"checkpoint_every = {self.checkpoint_every} has no effect: gradient_checkpointing is off",
                "remove it, or set gradient_checkpointing to on",
            )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = lengths_given(self)
        if len(given) > 1:
            named = " and ".join(f"`{name}`" for name in given)
            raise UserError(f"{named} both set how long to train", "keep one of them")
        return self

    def fingerprint(self) -> JsonObject:
        """The settings that a result depends on, for the digest of a run or of a stage."""
        return self.model_dump(mode="json", exclude=WITHOUT_EFFECT)


class TextTrainingConfig(TrainingConfig, TextBatches):
    """Training on rows of text."""


class ExampleTrainingConfig(TrainingConfig, ExampleBatches):
    """Training on examples of a task."""


def lengths_given(config: TrainingConfig) -> dict[str, float]:
    """Which settings give the run's length."""
    names = ("max_steps", "max_tokens", "epochs", "revisions")
    return {name: value for name in names if (value := getattr(config, name, None)) is not None}


def resolve(
    config: TrainingConfig,
    *,
    learning_rate: float,
    embedding_learning_rate: float,
    batch_tokens: int,
    max_seq_len: int,
    n_train_tokens: int,
    default_epochs: float = 1.0,
) -> TrainingPlan:
    """Fill what `config` leaves open from the choices made for the model's size and the data; raises `UserError`
    where the two cannot meet.
    """
    batches = part_of(config, TextBatches)
    assert batches is not None, "rows of text are counted in tokens"
    seq_len = _seq_len(config, max_seq_len)
    n_rows = max(1, (batches.batch_tokens or batch_tokens) // seq_len)
    if n_train_tokens < n_rows * (seq_len + 1):
        raise UserError(
            f"the training split has {n_train_tokens:,} tokens, fewer than one batch of {n_rows} rows of {seq_len} + 1",
            " or ".join(["add text", *_smaller_batch(seq_len, n_train_tokens)]),
        )
    tokens = batches.max_tokens or (config.epochs or default_epochs) * n_train_tokens
    max_steps = _given_steps(config) or max(1, round(tokens / (n_rows * seq_len)))
    return _plan(config, seq_len, n_rows, max_steps, learning_rate, embedding_learning_rate)


def _smaller_batch(seq_len: int, n_train_tokens: int) -> list[str]:
    """The settings that together make a batch of the tokens that there are; none where there are too few for a row."""
    if n_train_tokens > seq_len:
        return [f"lower batch_tokens to {n_train_tokens // (seq_len + 1) * seq_len}"]
    fitting = max(2, n_train_tokens // 4)
    if n_train_tokens <= fitting:
        return []
    return [f"lower seq_len to {fitting} and batch_tokens to {fitting}"]


def resolve_examples(
    config: TrainingConfig,
    *,
    learning_rate: float,
    embedding_learning_rate: float,
    max_seq_len: int,
    n_train_examples: int,
    batch_examples: int = 32,
    default_epochs: float = 3.0,
) -> TrainingPlan:
    """The same for rows that are examples: `batch_examples` a step, epochs over examples."""
    seq_len = _seq_len(config, max_seq_len)
    batches = part_of(config, ExampleBatches)
    n_rows = (batches and batches.batch_examples) or min(batch_examples, n_train_examples)
    if n_rows > n_train_examples:
        raise UserError(
            f"the training split has {n_train_examples:,} examples, fewer than one batch of {n_rows:,}",
            f"add examples, or lower batch_examples to {n_train_examples:,} at most",
        )
    examples = (config.epochs or default_epochs) * n_train_examples
    max_steps = _given_steps(config) or max(1, round(examples / n_rows))
    return _plan(config, seq_len, n_rows, max_steps, learning_rate, embedding_learning_rate)


def _seq_len(config: TrainingConfig, max_seq_len: int) -> int:
    seq_len = config.seq_len or max_seq_len
    if seq_len > max_seq_len:
        raise UserError(
            f"seq_len = {seq_len} exceeds the model's max_seq_len = {max_seq_len}",
            f"lower seq_len to {max_seq_len}",
        )
    return seq_len


def _given_steps(config: TrainingConfig) -> int | None:
    return config.revisions[-1][1] if config.revisions else config.max_steps


def _plan(
    config: TrainingConfig,
    seq_len: int,
    n_rows: int,
    max_steps: int,
    learning_rate: float,
    embedding_learning_rate: float,
) -> TrainingPlan:
    batches, decay, stable_decay = (
        part_of(config, Batches),
        part_of(config, Decay),
        part_of(config, StableDecay),
    )
    growth = batches.batch_growth if batches else 1
    betas = part_of(config, AdamBetas)
    schedule = "constant" if config.optimizer == "schedule_free" else config.schedule
    if growth & (growth - 1) or growth > n_rows:
        raise UserError(
            f"batch_growth = {growth}: must be a power of two and at most the {n_rows} rows of a batch",
            f"set batch_growth to {1 << (min(growth, n_rows).bit_length() - 1)}",
        )
    return TrainingPlan(
        seq_len=seq_len,
        micro_batch_size=min(config.micro_batch_size or n_rows, n_rows),
        n_rows=n_rows,
        batch_growth=growth,
        max_steps=max_steps,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        adam_betas=betas.adam_betas if betas else (0.0, 0.0),
        schedule=schedule,
        warmup_steps=min(
            config.warmup_steps, (config.revisions[0][1] if config.revisions else max_steps) // 2
        ),
        revisions=config.revisions or (),
        decay_fraction=stable_decay.decay_fraction if stable_decay and schedule == "wsd" else 1.0,
        final_fraction=decay.final_fraction if decay and schedule != "constant" else 1.0,
        grad_clip=config.grad_clip,
        seed=config.seed,
        precision=config.precision,
        compile=config.compile,
        gradient_checkpointing=config.gradient_checkpointing == "on",
        checkpoint_every=config.checkpoint_every,
        **{name: getattr(config, name) for name in PLACES},
        device=config.device,
        validate_every=config.validate_every or max(1, max_steps // 8),
        save_every=config.save_every,
        **_rates(config, learning_rate, embedding_learning_rate),
    )


def _rates(config: TrainingConfig, learning_rate: float, embedding_learning_rate: float) -> dict[str, Any]:
    """The learning rates and the momentum, of which the optimizers have their own."""
    sgd = part_of(config, SGDConfig)
    if sgd and config.learning_rate is None:
        raise UserError(
            "sgd has no learning rate of its own: what fits depends on the model",
            "set learning_rate; --find-rate proposes one",
        )
    rates: dict[str, Any] = {
        "learning_rate": config.learning_rate or embedding_learning_rate,
        "momentum": sgd.momentum if sgd else 0.0,
    }
    rates["embedding_learning_rate"] = rates["learning_rate"]
    if muon := part_of(config, MuonConfig):
        rates = {
            "learning_rate": config.learning_rate or learning_rate,
            "embedding_learning_rate": muon.embedding_learning_rate or embedding_learning_rate,
            "momentum": muon.momentum,
        }
    return rates
