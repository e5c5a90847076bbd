"""A run as the planner sees it: a model, a method, and the shapes of one step. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

from parakit.common.errors import UserError
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.transformer_config import TransformerConfig

RunMethod = Literal["pretrain", "full", "lora", "prompt", "qlora", "dpo", "grpo", "distill", "inference"]
METHODS: tuple[RunMethod, ...] = get_args(RunMethod)
Sharding = Literal["none", "optimizer", "gradients", "full"]
FROZEN: tuple[RunMethod, ...] = ("lora", "prompt", "qlora")  # the model's own weights do not train


@dataclass(frozen=True)
class RunSpec:
    """Rows of `seq_len` tokens, padding included, `micro_batch_size` of them in a forward pass and `n_rows` in a step; for
    `dpo` a row is a pair of completions of that length, for `grpo` a prompt with its completion of `n_new_tokens`, for
    `inference` one of the sequences that are decoded at once.
    """

    config: ModelConfig
    method: RunMethod = "pretrain"
    seq_len: int = 256
    n_rows: int = 8
    micro_batch_size: int = 8
    counted_share: float = 1.0
    """Of a row's tokens, those that the loss counts."""
    optimizer: Literal["adamw", "muon", "adam", "sgd", "schedule_free"] = "adamw"
    precision: str = "float32"
    checkpointing: bool = False
    rank: int = 8
    bits: int = 16
    """Of the stored weights, for qlora and inference; 16 and 32 are not quantized."""
    teacher: ModelConfig | None = None
    n_new_tokens: int = 64
    group_size: int = 8
    passes: int = 1
    """For grpo: optimizer steps' passes over each rollout."""
    n_devices: int = 1
    sharding: Sharding = "none"

    def changed(self, **changes: Any) -> Self:
        """A copy with `changes`."""
        return replace(self, **changes)

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass."""
        return self.method != "inference"

    @property
    def n_tokens(self) -> int:
        """Tokens of one step, padding included; those of both completions of a pair."""
        return self.n_rows * self.seq_len * self.texts_per_row

    @property
    def texts_per_row(self) -> int:
        """Rows of the network for each row of data."""
        return 2 if self.method == "dpo" else 1

    @property
    def n_parameters(self) -> int:
        """Of the model, without adapters."""
        return self.config.n_params()["total"]

    @property
    def n_trained(self) -> int:
        """Parameters that the optimizer updates."""
        if not self.trains:
            return 0
        if self.method == "prompt":
            return 20 * self.config.d_model
        if self.method in FROZEN:
            return lora_parameters(self.config, self.rank)
        return self.n_parameters

    def describe(self) -> str:
        """RunMethod and shape in a few words."""
        rows = "pairs" if self.method == "dpo" else "rows"
        return (
            f"{self.method}, {self.n_rows} {rows} of {self.seq_len} tokens, {self.micro_batch_size} at a time"
        )


def stacks_of(config: ModelConfig) -> list[TransformerConfig]:
    """The encoder and the decoder, or the one stack."""
    if isinstance(config, EncoderDecoderConfig):
        return [config.encoder, config.decoder]
    assert isinstance(config, TransformerConfig)
    return [config]


def lora_parameters(config: ModelConfig, rank: int) -> int:
    """The parameters of low-rank factors on every matrix of the blocks (Hu et al. 2022); of experts, which are one tensor,
    none. A test compares them with attached adapters.
    """
    total = 0
    for number, stack in enumerate(stacks_of(config)):
        wide, narrow, d = stack.n_heads * stack.head_dim, stack.n_kv_heads * stack.head_dim, stack.d_model
        gates = wide if stack.attention_gate else 0
        attention = (d + wide + gates) + 2 * (d + narrow) + (wide + d)
        feed_forward = (3 if stack.gated else 2) * (d + stack.d_ff)
        for layer in range(stack.n_layers):
            total += (
                rank * attention * (2 if number else 1)
            )  # a decoder after an encoder attends to it as well
            total += 0 if stack.has_experts(layer) else rank * feed_forward
    return total


def check_run(spec: RunSpec) -> None:
    """Raises `UserError` for shapes that make no sense together."""
    limit = min(stack.max_seq_len for stack in stacks_of(spec.config))
    if spec.seq_len > limit:
        raise UserError(
            f"seq_len = {spec.seq_len} exceeds the model's context of {limit} tokens", f"lower it to {limit}"
        )
    if spec.method == "distill" and spec.teacher is None:
        raise UserError(
            "distillation needs a teacher", "name its size with --teacher, for example --teacher 100m"
        )
    if spec.method in ("dpo", "grpo", "inference") and spec.config.family == "encoder":
        raise UserError(
            f"{spec.method} is for models that generate, and this is an encoder", "set --family decoder"
        )
    if spec.method == "grpo" and spec.n_new_tokens >= spec.seq_len:
        raise UserError(
            f"new_tokens = {spec.n_new_tokens} leaves no tokens for a prompt in rows of {spec.seq_len}",
            f"lower it to {spec.seq_len // 2}, or raise --seq-len",
        )
