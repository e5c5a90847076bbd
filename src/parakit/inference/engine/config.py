"""Settings of the engine. Imports no torch."""

from pydantic import Field

from parakit.common.settings import Config
from parakit.inference.config import CACHE_DTYPE, CacheDtype


class EngineConfig(Config):
    """How many requests run at once, and how much memory their keys and values may take."""

    memory_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Bound of the cache in bytes. Default: memory_share of what is free when the engine is made.",
    )
    memory_share: float = Field(
        default=0.5, gt=0.0, le=0.95, description="Of the free memory, where memory_bytes is not set."
    )
    cache_dtype: CacheDtype = Field(default="auto", description=CACHE_DTYPE)
    page_size: int = Field(default=16, ge=1, le=1_000_000, description="Tokens in a page of the cache.")
    max_seq_len: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Tokens of a prompt with its completion. Default: the model's context window.",
    )
    max_rows: int = Field(default=32, ge=1, le=100_000, description="Completions that run at once.")
    max_step_tokens: int = Field(
        default=512,
        ge=1,
        le=10_000_000,
        description="Tokens of one step: one for each running completion first, then chunks of prompts.",
    )
    max_queue: int = Field(
        default=10_000, ge=1, le=100_000_000, description="Requests that may wait; one more is refused."
    )
    share_prefixes: bool = Field(
        default=True, description="Reuse the pages of a prompt's beginning that was computed before."
    )
