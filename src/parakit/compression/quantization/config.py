"""Settings of quantization, one class for each method. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.byte_counts import parse_bytes
from parakit.common.choices import ABSENT, GIVEN, ChoiceConfig, part_of
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config
from parakit.model.quantized.scheme import GroupSize, QuantScheme

QuantizationMethod = Literal["rounding", "gptq", "awq"]
GROUP_SIZES: tuple[GroupSize, ...] = (128, 64, 32)
MatrixBits = Literal[4, 8, "plain"]


class Tuning(Config):
    """With steps of tuning after rounding."""

    tune_codes: bool = Field(
        default=False,
        description="Tune the integers as well, in as much memory as a full fine-tuning takes.",
    )


class Calibration(Config):
    """Of what reads text before it rounds."""

    choices: ClassVar[Choices] = {"tune_steps": {GIVEN: Tuning}}

    calibration: tuple[str, ...] = Field(
        default=(),
        description="Text files of the kind that the model will read. Default: what it was trained on, where a build is"
        " around it, else text that it generates.",
    )
    n_calibration_tokens: int = Field(
        default=16_384, ge=128, description="Tokens of that text that are read, in windows."
    )
    calibration_seq_len: int = Field(
        default=512, ge=16, description="Length of these windows in tokens; at most the model's own."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the choice of windows, and of generated text.")
    tune_steps: int = Field(
        default=0,
        ge=0,
        description="Steps that tune the scales and the norms on the original's probabilities, a window each, after rounding.",
    )


class SensitivityTokens(Config):
    """Of a measurement of how much each layer matters."""

    n_sensitivity_tokens: int = Field(
        default=2048, ge=32, description="Tokens on which it is measured how much each layer matters."
    )


class FixedBits(Config):
    """Without a size budget, which measures the layers in any case."""

    choices: ClassVar[Choices] = {"sensitivity": {GIVEN: SensitivityTokens}}

    sensitivity: bool = Field(
        default=False,
        description="Report how much each layer matters: the KL divergence when it alone is quantized.",
    )


class Budget(Calibration, SensitivityTokens):
    """With a size budget."""


class ScaleSearch(Config):
    """Of methods without a search of their own."""

    scale_search: bool = Field(
        default=True,
        description="Choose scales of least squared error; else the smallest that clips nothing.",
    )


class QuantizeConfig(ChoiceConfig):
    """How to quantize: the base of all methods, and the method `rounding`, which reads no text."""

    method: QuantizationMethod = Field(
        default="rounding",
        description="rounding: to the closest integer; gptq: the columns not yet rounded make up for the error of the others;"
        " awq: inputs that matter get finer steps. The last two read calibration text.",
    )
    bits: Literal[4, 8] | None = Field(
        default=None, description="Bits of a weight. Either this or a size budget."
    )
    size_budget: str | None = Field(
        default=None,
        description="Largest size of the weights, for example 80MB: each layer gets bits and groups by how much it matters.",
    )
    quant_group_size: Literal[32, 64, 128, "largest"] | None = Field(
        default=None,
        description="Weights of a row that share a scale. Default: with 4 bits 32, and a layer whose width is no multiple of"
        " that has 8 bits; with 8 bits all of a row. largest: the largest of 128, 64 and 32 that divides a layer's width.",
    )
    symmetric: bool | None = Field(
        default=None, description="No zero points. Default: with 8 bits; 4 bits have one for each group."
    )
    embedding_bits: MatrixBits | None = Field(
        default=None,
        description="Bits of the token embedding and of a head tied to it; plain: not quantized. Default: as all others.",
    )
    head_bits: MatrixBits | None = Field(
        default=None,
        description="Bits of an output matrix that is not tied to the embedding. Default: as all others.",
    )
    activation_bits: Literal[8] | None = Field(
        default=None, description="Round the inputs of the layers too, with a scale for each token."
    )
    plain_layers: tuple[str, ...] = Field(
        default=(), description="Layers that are not quantized, by name or by its last part: down, lm_head."
    )
    text: tuple[str, ...] = Field(
        default=(),
        description="Text files on which the result is compared with the original. Default: what the build held out, else a"
        " part of the calibration files, else general texts.",
    )
    n_measured_tokens: int = Field(default=8192, ge=64, description="Tokens of that text that are read.")
    measured_seq_len: int = Field(
        default=512, ge=16, description="Length of its windows in tokens; at most the model's own."
    )
    accept_loss: bool = Field(
        default=False, description="Write the model also where a suite falls by more than a point."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.bits is None) == (self.size_budget is None):
            what = (
                "`bits` and `size_budget` are both set"
                if self.bits
                else "neither `bits` nor `size_budget` is set"
            )
            raise UserError(
                what,
                "set one of them: bits 8 or 4, or the size that the weights may have",
            )
        if self.bits == 8 and self.symmetric is False:
            raise UserError("`symmetric` is false, and 8 bits have no zero points", "remove it")
        if self.size_budget is not None:
            parse_bytes(self.size_budget, "size budget")
        return self

    @property
    def searches_scales(self) -> bool:
        """Whether scales are chosen by their error where nothing but the weights is known."""
        choice = part_of(self, ScaleSearch)
        return choice is None or choice.scale_search

    def scheme(self, bits: Literal[4, 8], n_inputs: int) -> QuantScheme:
        """Of a matrix of so many bits and inputs; a group size that does not divide them is the caller's fault to find."""
        group: GroupSize | None = 32 if bits == 4 else None
        if self.quant_group_size == "largest":
            fitting: tuple[GroupSize, ...] = tuple(size for size in GROUP_SIZES if n_inputs % size == 0)
            group = fitting[0] if fitting else group
        elif self.quant_group_size is not None:
            group = self.quant_group_size
        symmetric = bits == 8 or bool(self.symmetric)
        return QuantScheme(
            bits=bits,
            quant_group_size=group,
            symmetric=symmetric,
            activation_bits=self.activation_bits,
        )


class GPTQConfig(QuantizeConfig, Calibration, ScaleSearch):
    """GPTQ (Frantar et al. 2022)."""

    method: Literal["gptq"] = "gptq"
    damping: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="By what share the diagonal of the Hessian is raised: more where calibration text is short.",
    )
    act_order: bool = Field(
        default=True, description="Round the columns of the largest inputs first; groups stay as they are."
    )
    correct_inputs: bool = Field(
        default=True,
        description="Aim at the outputs of the original model: a layer also makes up for the errors of those before it.",
    )


class AWQConfig(QuantizeConfig, Calibration):
    """Activation-aware scaling (Lin et al. 2023)."""

    method: Literal["awq"] = "awq"
    n_scale_steps: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Exponents between 0 and 1 that are tried for the inputs' scales.",
    )
    clip: bool = Field(
        default=True, description="Also choose for each group how far its largest values are clipped."
    )


QuantizeConfig.choices = {
    "method": {"rounding": ScaleSearch, "gptq": GPTQConfig, "awq": AWQConfig},
    "size_budget": {GIVEN: Budget, ABSENT: FixedBits},
}
