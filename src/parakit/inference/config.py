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
        description="Divide positive logits of tokens that occurred "
        "by this, and multiply negative ones; 1: off.",
    )
    temperature: float = Field(
        default=0.7,
        ge=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Divide the logits by this; 0: greedy.",
    )
    top_k: int = Field(default=0, ge=0, le=10_000_000, description="Keep the k likeliest tokens; 0: all.")
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Keep the fewest likeliest tokens whose probabilities sum to this; 1: all.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Drop tokens whose probability is below this fraction of the likeliest token's; 0: none.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Equal seeds give equal completions. Default: a random seed.",
    )
    max_new_tokens: int = Field(
        default=200,
        ge=1,
        le=10_000_000,
        description="Length limit of a completion in tokens.",
    )
    stop: tuple[StopString, ...] = Field(
        default=(),
        max_length=64,
        description="Stop strings: they end the completion and are removed from it.",
    )


class BeamConfig(Config):
    """Beam search for the likeliest completion."""

    n_beams: int = Field(default=4, ge=1, le=1000, description="Beams of the search; 1: greedy.")
    length_penalty: float = Field(
        default=1.0,
        ge=-10.0,
        le=10.0,
        allow_inf_nan=False,
        description="The score of a completion is its log-probability / "
        "tokens ** length_penalty; 0: no length normalization.",
    )
    stop_when: StopWhen = Field(
        default="unlikely",
        description="When n_beams completions are finished, stop: when the best open one scores worse "
        "(unlikely), at once (full), or when no open one can still win (impossible).",
    )
    max_new_tokens: int = Field(
        default=200, ge=1, le=10_000_000, description="Length limit of a completion in tokens."
    )


class ChatConfig(Config):
    """A conversation: its system prompt, its sampling, and what happens when the context window is full."""

    system: str = Field(default="", description="The system prompt.")
    when_full: Literal["refuse", "drop_oldest"] = Field(
        default="drop_oldest",
        description="With a full context window: drop the oldest turns with a notice, or refuse with an error.",
    )
    sampling: SamplingConfig = Field(
        default_factory=SamplingConfig, description="Sampling settings of the answers."
    )
