"""Settings of generation: sampling, beam search, and conversations within the context window."""

from typing import Annotated, Literal

from pydantic import Field

from parakit.common.settings import Config

StopWhen = Literal["unlikely", "full", "impossible"]
StopString = Annotated[str, Field(min_length=1, max_length=1000)]


class SamplingConfig(Config):
    """How completions are sampled. Temperature 0 is exactly greedy; the filters apply in the order of the fields."""

    repetition_penalty: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Divide the logits of tokens that occurred (multiply negative ones) by this; 1 is off.",
    )
    temperature: float = Field(
        default=0.7,
        ge=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Divide the logits by this; 0 is greedy.",
    )
    top_k: int = Field(
        default=0, ge=0, le=10_000_000, description="Keep the k likeliest tokens; 0 keeps all."
    )
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Keep the fewest likeliest tokens whose probabilities sum to this; 1 keeps all.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Drop tokens less likely than this share of the likeliest one; 0 keeps all.",
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Equal seeds give equal completions; none: a random seed."
    )
    max_new_tokens: int = Field(
        default=200,
        ge=1,
        le=10_000_000,
        description="Longest completion in tokens; the context window may end it earlier.",
    )
    stop: tuple[StopString, ...] = Field(
        default=(), max_length=64, description="Stop strings: they end the completion and are not part of it."
    )


class BeamConfig(Config):
    """Beam search for the likeliest completion."""

    n_beams: int = Field(
        default=4, ge=1, le=1000, description="Unfinished completions in every step; 1 is greedy."
    )
    length_penalty: float = Field(
        default=1.0,
        ge=-10.0,
        le=10.0,
        allow_inf_nan=False,
        description="A score is log probability / tokens ** this: above 0 longer ones gain, 0 is the plain sum.",
    )
    stop_when: StopWhen = Field(
        default="unlikely",
        description="With n_beams finished completions, stop when the best unfinished one scores worse (unlikely),"
        " at once (full), or when no unfinished one can become better (impossible).",
    )
    max_new_tokens: int = Field(default=200, ge=1, le=10_000_000, description="Longest completion in tokens.")


class ChatConfig(Config):
    """A conversation: its system prompt, its sampling, and what happens when the context window is full."""

    system: str = Field(default="", description="The system prompt.")
    when_full: Literal["refuse", "drop_oldest"] = Field(
        default="refuse",
        description="With a full context window: an error, or drop the oldest turns and name them.",
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How answers are sampled.")
