"""The settings of layers of the gated delta rule. Imports no torch."""

from typing import Self

from pydantic import Field, model_validator

from parakit.common.settings import Config


class DeltaRule(Config):
    """Layers of the gated delta rule (Qwen3.5), which stand where other layers have attention."""

    layers: tuple[int, ...] = Field(min_length=1)
    n_key_heads: int = Field(ge=1, description="heads of queries and keys")
    n_value_heads: int = Field(ge=1, description="heads of values; several may share a key head")
    key_dim: int = Field(ge=1, description="features of a query or key")
    value_dim: int = Field(ge=1)
    conv_kernel_size: int = Field(default=4, ge=1, description="tokens that the convolution before sees")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.n_value_heads % self.n_key_heads:
            raise ValueError(
                f"n_value_heads = {self.n_value_heads} is not a multiple of n_key_heads = {self.n_key_heads}"
            )
        return self
