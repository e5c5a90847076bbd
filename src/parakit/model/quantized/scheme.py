"""How one matrix is quantized. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config

Bits = Literal[4, 8]
GroupSize = Literal[32, 64, 128]


class QuantScheme(Config):
    """Integers with a scale for every output row, or for every group of `quant_group_size` inputs of a row."""

    bits: Bits = Field(default=8, description="Bits of a stored weight.")
    quant_group_size: GroupSize | None = Field(
        default=None, description="Inputs that share a scale; default: all inputs of an output row."
    )
    symmetric: bool = Field(
        default=True, description="Values around zero; otherwise each group has a zero point (4 bits only)."
    )
    activation_bits: Literal[8] | None = Field(
        default=None, description="Round the inputs too, with one scale for each token. Default: not at all."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.bits == 8 and not self.symmetric:
            raise ValueError("8 bits are symmetric: a zero point gains nothing there")
        return self

    def groups(self, n_inputs: int) -> int:
        """Scales of one output row."""
        return 1 if self.quant_group_size is None else n_inputs // self.quant_group_size

    def fault(self, shape: tuple[int, int]) -> str | None:
        """Why a matrix (outputs, inputs) cannot be quantized so; None if it can."""
        n_inputs, group = shape[1], self.quant_group_size
        if group is not None and n_inputs % group:
            return f"its {n_inputs} inputs are not a multiple of the group size {group}"
        if self.bits == 4 and n_inputs % 2:
            return f"its {n_inputs} inputs are an odd number, and 4-bit weights are stored in pairs"
        return None

    def check(self, name: str, shape: tuple[int, int]) -> None:
        """Raise `UserError` naming the matrix and both numbers where it cannot be quantized so."""
        if fault := self.fault(shape):
            fitting = [str(size) for size in (128, 64, 32) if shape[1] % size == 0]
            way_out = (
                f"choose a group size of {' or '.join(fitting)}" if fitting else "leave this layer plain"
            )
            raise UserError(f"{name} ({shape[0]} x {shape[1]}) cannot be quantized: {fault}", way_out)

    def n_bytes(self, shape: tuple[int, int]) -> int:
        """Bytes of the canonical buffers of a matrix (outputs, inputs)."""
        n_out, n_in = shape
        groups = n_out * self.groups(n_in)
        scale_bytes = 4 if self.quant_group_size is None else 2
        return n_out * n_in * self.bits // 8 + groups * (scale_bytes + (not self.symmetric))
