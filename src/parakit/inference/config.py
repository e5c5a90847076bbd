"""Settings of speaking: how the next token is chosen, and how a conversation is kept within the context.

Torch-free, so that the command line and the recipe can read it at no cost. Every number has a bound.
"""

from typing import Annotated, Literal

from pydantic import Field

from parakit.common.settings import Config

StopString = Annotated[str, Field(min_length=1, max_length=1000)]


class SamplingConfig(Config):
    """How completions are drawn. Temperature 0 is exactly greedy; the filters apply in the order of these
    fields.
    """

    repetition_penalty: float = Field(
        1.0,
        gt=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Weaken tokens that occurred: divide logits (multiply negative ones) by this; 1 is off.",
    )
    temperature: float = Field(
        0.7, ge=0.0, le=100.0, allow_inf_nan=False, description="Divide the logits by this; 0 is greedy."
    )
    top_k: int = Field(0, ge=0, le=10_000_000, description="Keep the k likeliest tokens; 0 keeps all.")
    top_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Keep the fewest likeliest tokens whose probabilities sum to this; 1 keeps all.",
    )
    min_p: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Drop tokens less likely than this share of the likeliest one; 0 keeps all.",
    )
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="Equal seeds give equal completions; none draws a fresh one."
    )
    max_new_tokens: int = Field(
        200,
        ge=1,
        le=10_000_000,
        description="Longest completion in tokens; the context window may end it sooner.",
    )
    stop: tuple[StopString, ...] = Field(
        (), max_length=64, description="Texts that end the completion; they are never shown."
    )


class BeamConfig(Config):
    """How beam search looks for the likeliest completion."""

    n_beams: int = Field(
        4, ge=1, le=1000, description="Unfinished completions kept in every step; 1 is greedy."
    )
    length_penalty: float = Field(
        1.0,
        ge=-10.0,
        le=10.0,
        allow_inf_nan=False,
        description="A score is log probability / tokens ** this: above 0 longer ones gain, 0 is the plain sum.",
    )
    stop_when: Literal["unlikely", "full", "impossible"] = Field(
        "unlikely",
        description="Having n_beams finished ones, go on until the best unfinished one is worse as it stands"
        " (unlikely), not at all (full), or until none could become better at its best (impossible).",
    )
    max_new_tokens: int = Field(200, ge=1, le=10_000_000, description="Longest completion in tokens.")


class ChatConfig(Config):
    """A conversation: its system prompt, its sampling, and what happens when it outgrows the context
    window.
    """

    system: str = Field("", description="What the model is told before the conversation.")
    when_full: Literal["refuse", "drop_oldest"] = Field(
        "refuse",
        description="Context window full: say so and stop, or leave out the oldest turns and say which.",
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How answers are drawn.")
