"""Configs of decoders, encoders and encoder-decoders, with their parameter and operation counts. Imports no torch.

A family sets the defaults of `TransformerConfig`: `DecoderConfig` is Qwen3's architecture, `EncoderConfig` ModernBERT's,
`EncoderDecoderConfig` combines one of each. The counts are computed in `counts.py`.
"""

import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config, Family
from parakit.model import counts
from parakit.model.transformer_config import Activation, TransformerConfig


class _CountedConfig(TransformerConfig):
    """A stack with a language-model head, and its costs."""

    def n_params(self) -> dict[str, int]:
        """Exact parameter counts by part; `total` counts tied embeddings once."""
        return counts.stack_params(self)

    def n_active_params(self) -> int:
        """Parameters that process one token: all but the inactive experts."""
        return counts.active_params(self)

    def n_matmul_params(self) -> int:
        """Parameters that multiply every token: all active matrices, with the output head, without the embedding."""
        return counts.matmul_params(self)

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Floating-point operations of one token in a sequence of `seq_len`; see `counts`."""
        return counts.flops_per_token(self, seq_len, training)


class DecoderConfig(_CountedConfig):
    """A decoder: every token attends to itself and those before it. The default is Qwen3's architecture."""

    family: ClassVar[Family] = "decoder"

    query_key_norm: bool = True


class EncoderConfig(_CountedConfig):
    """An encoder: every token attends to all others. The default is ModernBERT's (Warner et al. 2024)."""

    family: ClassVar[Family] = "encoder"

    norm: Literal["rms", "layer"] = "layer"
    norm_eps: float = Field(default=1e-5, gt=0)
    embedding_norm: bool = True
    activation: Activation = "gelu"
    head_transform: bool = True
    lm_head_bias: bool = True


class EncoderDecoderConfig(Config):
    """An encoder of a source, and a decoder that attends to it. They share the token embedding."""

    family: ClassVar[Family] = "encoder-decoder"

    encoder: EncoderConfig
    decoder: DecoderConfig
    decoder_start_id: int = Field(default=0, ge=0, description="the decoder's first input, before any token")

    @model_validator(mode="after")
    def _check_shared(self) -> Self:
        for name in ("vocab_size", "d_model", "embedding_scale"):
            first, second = getattr(self.encoder, name), getattr(self.decoder, name)
            if first != second:
                raise ValueError(
                    f"{name} is {first} in the encoder and {second} in the decoder: they share it"
                )
        if self.decoder.parallel_residual or self.decoder.sublayer_norm != "input":
            raise ValueError("parallel_residual and sublayer_norm are for stacks without cross-attention")
        if self.decoder.delta_rule is not None or self.decoder.attention_gate or self.encoder.attention_gate:
            raise ValueError("delta_rule and attention_gate are for stacks without cross-attention")
        if self.encoder.d_embedding or self.decoder.d_embedding:
            raise ValueError("d_embedding is for stacks without cross-attention")
        if self.decoder_start_id >= self.vocab_size:
            raise ValueError(
                f"decoder_start_id = {self.decoder_start_id}, and vocab_size = {self.vocab_size}"
            )
        return self

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def d_model(self) -> int:
        return self.decoder.d_model

    @property
    def d_output(self) -> int:
        """Width of the decoder's vectors."""
        return self.decoder.d_output

    @property
    def d_token(self) -> int:
        """Width of the shared token embedding."""
        return self.decoder.d_token

    @property
    def n_layers(self) -> int:
        """Of both stacks together."""
        return self.encoder.n_layers + self.decoder.n_layers

    @property
    def max_seq_len(self) -> int:
        """Tokens that either side can hold."""
        return min(self.encoder.max_seq_len, self.decoder.max_seq_len)

    @property
    def tie_embeddings(self) -> bool:
        return self.decoder.tie_embeddings

    def n_params(self) -> dict[str, int]:
        """Exact parameter counts by part; the shared embedding counts once."""
        return counts.encoder_decoder_params(self.encoder, self.decoder)

    def n_active_params(self) -> int:
        """Parameters that process one source and one target token: all but the inactive experts."""
        return counts.encoder_decoder_active_params(self.encoder, self.decoder)

    def n_matmul_params(self) -> int:
        """Parameters that multiply a source or a target token, summed."""
        return counts.encoder_decoder_matmul_params(self.encoder, self.decoder)

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Floating-point operations of one source and one target token, in sequences of `seq_len` each."""
        return counts.encoder_decoder_flops(self.encoder, self.decoder, seq_len, training)


ModelConfig = DecoderConfig | EncoderConfig | EncoderDecoderConfig

FAMILIES: dict[str, type[DecoderConfig] | type[EncoderConfig] | type[EncoderDecoderConfig]] = {
    "decoder": DecoderConfig,
    "encoder": EncoderConfig,
    "encoder-decoder": EncoderDecoderConfig,
}

ClassifierLevel = Literal["sequence", "token", "span", "replaced"]
SPAN_LABELS = ("start", "end")
FIXED_LABELS = {"span": SPAN_LABELS, "replaced": ("replaced",)}
Pooling = Literal["mean", "cls", "last"]
EmbedderPooling = Literal["mean", "cls", "last", "max", "mean_sqrt_len", "weighted_mean"]


class ClassifierConfig(Config):
    """The labels and the head of a `Classifier` of sequences or of their tokens. At the level "span" the labels are
    `SPAN_LABELS`, the first and the last token of a question's answer; "replaced" is one score for each token, whether
    another stood there (ELECTRA's discriminator).
    """

    labels: tuple[str, ...] = Field(min_length=1, description="names of the classes; for regression one name")
    level: ClassifierLevel = "sequence"
    regression: bool = Field(
        default=False, description="predict a number for each label instead of choosing one"
    )
    sigmoid: bool = Field(
        default=False, description="a score is passed through a sigmoid when it is predicted"
    )
    multi_label: bool = Field(
        default=False, description="each label is there or not, independently of the others"
    )
    pooling: Pooling = "cls"
    head: Literal["linear", "tanh", "relu", "gelu", "transform"] = Field(
        default="transform",
        description="before the last matrix: nothing; dense and tanh (BERT), ReLU (DistilBERT) or GELU (ELECTRA);"
        " dense, activation and norm",
    )
    bias: bool = True

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.multi_label and (self.regression or self.level != "sequence"):
            raise ValueError(
                "multi_label = True labels sequences, and neither regression nor another level does"
            )
        if self.sigmoid and not self.regression:
            raise ValueError("sigmoid = True is for scores, and regression = False")
        fixed = FIXED_LABELS.get(self.level, self.labels)
        if self.labels != fixed:
            raise ValueError(f"labels = {self.labels}, and at the level {self.level!r} they are {fixed}")
        return self


class DenseConfig(Config):
    """A dense layer behind the pooling of an `Embedder`."""

    d_output: int = Field(gt=0)
    activation: Literal["identity", "tanh", "relu", "gelu", "silu", "sigmoid"] = "tanh"
    bias: bool = True
    residual: bool = Field(
        default=False, description="add the input, through a matrix where the widths differ"
    )


class EmbedderConfig(Config):
    """How a text becomes one vector: what sentence-transformers keeps in the files around a model."""

    pooling: EmbedderPooling | tuple[EmbedderPooling, ...] = Field(
        default="mean", description="one pooling of the token vectors, or several, concatenated in this order"
    )
    include_prompt: bool = Field(default=True, description="a prompt's tokens are pooled too")
    dense: tuple[DenseConfig, ...] = Field(default=(), description="layers behind the pooling")
    normalize: bool = True
    truncate_dim: int | None = Field(default=None, gt=0, description="vectors are cut to this width")
    max_seq_len: int | None = Field(default=None, gt=0, description="texts are cut to this many tokens")
    lower_case: bool = Field(default=False, description="texts are lowercased first")
    prompts: dict[str, str] = Field(default_factory=dict, description="texts to put before a text, by name")
    default_prompt: str | None = Field(
        default=None, description="the name of the prompt that is used unless asked"
    )

    @model_validator(mode="after")
    def _check_pooling(self) -> Self:
        if isinstance(self.pooling, tuple) and len(self.pooling) < 2:
            raise ValueError(f"pooling = {self.pooling}: write one pooling as a string, or list several")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(
                f"default_prompt = {self.default_prompt!r}, and the prompts are {sorted(self.prompts)}"
            )
        return self

    def cased(self, text: str) -> str:
        """`text`, in lower case where the model reads it so."""
        # letter by letter, as the normalizer of tokenizers does: a final sigma is no other letter
        return "".join(letter.lower() for letter in text) if self.lower_case else text

    def prepared(self, text: str) -> str:
        """`text` as the model reads it where nothing else is set: behind its default prompt, in its case."""
        prompt = "" if self.default_prompt is None else self.prompts[self.default_prompt]
        return self.cased(prompt + text)

    @property
    def poolings(self) -> tuple[str, ...]:
        """All of them, one or several."""
        return (self.pooling,) if isinstance(self.pooling, str) else self.pooling

    def widths(self, d_output: int) -> list[int]:
        """Widths of the pooled vector and of the result of each dense layer, for token vectors of `d_output` features."""
        return [d_output * len(self.poolings), *(layer.d_output for layer in self.dense)]

    def n_dense_params(self, d_output: int) -> int:
        """Parameters of the dense layers."""
        widths = self.widths(d_output)
        return sum(
            layer.d_output * (d_input * (1 + (layer.residual and d_input != layer.d_output)) + layer.bias)
            for layer, d_input in zip(self.dense, widths, strict=False)
        )

    def d_vector(self, d_output: int) -> int:
        """Width of a text's vector."""
        return min(self.widths(d_output)[-1], self.truncate_dim or sys.maxsize)


def model_config(family: str, values: Mapping[str, Any], where: str = "model config") -> ModelConfig:
    """A config of `family` from the result of `model_dump`."""
    if family not in FAMILIES:
        raise UserError(f"{where}: no family {family!r}", f"one of: {', '.join(FAMILIES)}")
    return FAMILIES[family].parse(values, where)
