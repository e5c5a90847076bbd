"""Fields that the forms of OpenAI's API share, and what they mean to the sampler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from parakit.inference.config import MAX_BIASES, ConstraintText, SamplingSettings, StopString, WhenFull
from parakit.serving.config import MAX_COMPLETIONS, MAX_STOP_STRINGS

MAX_TOKENS = 10_000_000
ModelName = Annotated[str, Field(min_length=1, max_length=300)]
ShortText = Annotated[str, Field(max_length=512)]
# fields of OpenAI's requests that do not change what is computed here
IGNORED = frozenset(
    (
        *(
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
        ),
        *("modalities", "verbosity", "reasoning_effort", "prediction"),
    )
)


class ApiModel(BaseModel):
    """A part of a request: unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class StreamSettings(ApiModel):
    """`stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaFormat(ApiModel):
    """The schema of a `response_format`."""

    name: str = Field(default="response", max_length=200)
    description: str | None = None
    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(ApiModel):
    """What the answer must be: any text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    def settings(self) -> SamplingSettings:
        """As settings of the sampler."""
        if self.type == "text":
            return {}
        if self.type == "json_object":
            return {"json_schema": {"type": "object"}}
        schema = None if self.json_schema is None else self.json_schema.json_schema
        return {"json_schema": {} if schema is None else schema}


class SamplingFields(ApiModel):
    """Settings of sampling, OpenAI's and Parakit's own."""

    model: ModelName
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0.0, le=100.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    n: int | None = Field(default=None, ge=1, le=MAX_COMPLETIONS)
    stop: (
        StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS, fail_fast=True)] | None
    ) = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    logit_bias: (
        dict[Annotated[str, Field(min_length=1, max_length=1000)], Annotated[float, Field(ge=-1e4, le=1e4)]]
        | None
    ) = Field(default=None, max_length=MAX_BIASES)
    stream: bool | None = None
    stream_options: StreamSettings | None = None
    response_format: ResponseFormat | None = None
    top_k: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    typical_p: float | None = Field(default=None, gt=0.0, le=1.0)
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=100.0)
    no_repeat_ngram_size: int | None = Field(default=None, ge=0, le=1_000_000)
    min_new_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    regex: ConstraintText | None = None
    grammar: ConstraintText | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = Field(default=None, max_length=1000)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_ignored(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items() if key not in IGNORED}

    @property
    def when_full(self) -> WhenFull | None:
        """The truncation policy that the request sets."""
        return None if self.truncation is None else ("drop_oldest" if self.truncation == "auto" else "refuse")

    def sampling(self) -> SamplingSettings:
        """The settings that the request sets."""
        settings: dict[str, Any] = {
            name: value for name in _SAME_NAMES if (value := getattr(self, name)) is not None
        }
        if self.max_tokens is not None:
            settings["max_new_tokens"] = self.max_tokens
        if self.stop is not None:
            settings["stop"] = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if self.seed is not None:
            settings["seed"] = self.seed % 2**63
        if self.response_format is not None:
            settings.update(self.response_format.settings())
        return settings  # type: ignore[return-value]


_SAME_NAMES = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "logit_bias", "no_repeat_ngram_size", "min_new_tokens", "regex", "grammar"),
)
