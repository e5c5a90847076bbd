"""Settings of new adapters. Imports no torch."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.common.settings import Config

LoraInit = Literal["kaiming", "gaussian", "pissa", "olora"]


class LoraConfig(Config):
    """Low-rank adaptation (Hu et al. 2022): weight + scale * lora_b @ lora_a."""

    rank: int = Field(default=8, ge=1, description="Rows of lora_a and columns of lora_b.")
    alpha: float = Field(default=16.0, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapters' inputs.")
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of linear layers and embeddings. Default: "
        "every matrix of the blocks except routers.",
    )
    rank_stabilized: bool = Field(
        default=False, description="Scale by alpha / sqrt(rank) (Kalajdzievski 2023)."
    )
    dora: bool = Field(
        default=False, description="Also train the norm of every row of the weight (Liu et al. 2024)."
    )
    init: LoraInit = Field(
        default="kaiming",
        description="of the factors: uniform or normal and zero, or the weight's largest components (SVD, QR)",
    )
    token_ids: tuple[int, ...] = Field(
        default=(),
        description="Tokens whose rows of embedding and output "
        "matrix are trained, such as new control tokens.",
    )
    fully_trained: tuple[str, ...] = Field(
        default=(), description="Modules of which a full copy is trained, such as a new head."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.dora and self.init in ("pissa", "olora"):
            raise ValueError(
                f"dora starts from the norms of the weight's rows, and init = {self.init!r} changes them"
            )
        return self

    @property
    def scale(self) -> float:
        """The factor by which `lora_b @ lora_a` is multiplied."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


class PromptConfig(Config):
    """Prompt tuning (Lester et al. 2021): trained vectors before the embedded tokens."""

    n_prompt_tokens: int = Field(
        default=20, ge=1, description="Virtual tokens; they take up the context window."
    )


class PrefixConfig(Config):
    """Prefix tuning (Li and Liang 2021): trained keys and values before those of the tokens, in every layer."""

    n_prompt_tokens: int = Field(
        default=20, ge=1, description="Virtual tokens; they take up the context window."
    )


AdapterConfig = LoraConfig | PromptConfig | PrefixConfig
