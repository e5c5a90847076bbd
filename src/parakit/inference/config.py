"""Settings of generation: sampling, beam search, and conversations within the context window."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import Field, field_validator, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config

StopWhen = Literal["unlikely", "full", "impossible"]
WhenFull = Literal["refuse", "drop_oldest"]
CacheDtype = Literal["auto", "model", "float32", "bfloat16", "float16", "int8"]
CACHE_DTYPE = (
    "Of cached keys and values. auto: float16 for quantized weights on a CPU, else as the model computes them (model);"
    " int8 has a scale for each token and head."
)
StopString = Annotated[str, Field(min_length=1, max_length=1000)]
LogitBias = dict[
    int | Annotated[str, Field(min_length=1, max_length=1000)], Annotated[float, Field(ge=-1e4, le=1e4)]
]
MAX_BIASES = 10_000
MAX_CONSTRAINT = 262_144  # characters
ConstraintText = Annotated[str, Field(max_length=MAX_CONSTRAINT)]
JsonSchema = dict[str, Any] | bool | str


class DecodingConfig(Config):
    """What every way of decoding has: what changes the scores of the next token, in the order in which it applies, and
    the limits.
    """

    logit_bias: LogitBias = Field(
        default_factory=dict,
        max_length=MAX_BIASES,
        description='Add numbers to the logits of tokens, by id or by the text of one token: {"262": -5, " the": 2}.',
    )
    repetition_penalty: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        description="Divide positive logits of tokens that occurred by this, and multiply negative ones; 1: off.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2.0,
        le=2.0,
        description="Subtract this from a token's logit for every time the completion has it.",
    )
    presence_penalty: float = Field(
        default=0.0, ge=-2.0, le=2.0, description="Subtract this from the logits of the completion's tokens."
    )
    no_repeat_ngram_size: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="No n-gram of so many tokens occurs twice, prompt included; 0: off. Default: as the publisher set.",
    )
    min_new_tokens: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="No end before so many tokens; 0: off. Default: as the publisher set.",
    )
    max_new_tokens: int = Field(
        default=200, ge=1, le=10_000_000, description="Length limit of a completion in tokens."
    )
    when_full: WhenFull = Field(
        default="refuse",
        description="A prompt over the context window: refuse it, or leave out its beginning (of a conversation its"
        " oldest turns) with a notice.",
    )
    cache_dtype: CacheDtype = Field(default="auto", description=CACHE_DTYPE)

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _read_json(cls, biases: Any) -> Any:
        """A command line gives JSON."""
        if not isinstance(biases, str):
            return biases
        try:
            return json.loads(biases)
        except ValueError:
            raise ValueError('give a JSON object, such as {"262": -5}') from None

    @field_validator("logit_bias")
    @classmethod
    def _read_ids(cls, biases: dict[int | str, float]) -> dict[int | str, float]:
        """Keys of digits are ids: JSON has no other keys than strings."""
        ids = {int(key) if str(key).isascii() and str(key).isdigit() else key: v for key, v in biases.items()}
        if any(isinstance(key, int) and not 0 <= key < 2**31 for key in ids):
            raise ValueError("token ids are from 0 to 2147483647")
        return ids

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if (self.min_new_tokens or 0) > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens = {self.min_new_tokens} is over max_new_tokens = {self.max_new_tokens}"
            )
        return self


class SamplingConfig(DecodingConfig):
    """How completions are sampled. Temperature 0 is exactly greedy; the filters apply in the order of the fields."""

    temperature: float = Field(
        default=0.7,
        ge=0.0,
        le=100.0,
        description="Divide the logits by this; 0: greedy.",
    )
    top_k: int = Field(default=0, ge=0, le=10_000_000, description="Keep the k likeliest tokens; 0: all.")
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Keep the fewest likeliest tokens whose probabilities sum to this; 1: all.",
    )
    min_p: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Drop tokens whose probability is below this fraction of the likeliest token's; 0: none.",
    )
    typical_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Keep the tokens whose surprise is closest to the entropy, up to this probability; 1: all.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Equal seeds give equal completions. Default: a random seed.",
    )
    n: int = Field(default=1, ge=1, le=1024, description="Completions of a prompt, which is read once.")
    log_probabilities: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Report the log-probability of each token, and of so many of the likeliest ones.",
    )
    stop: tuple[StopString, ...] = Field(
        default=(),
        max_length=64,
        description="Stop strings: they end the completion and are removed from it.",
    )
    json_schema: JsonSchema | None = Field(
        default=None, description="The completion is JSON that this schema validates."
    )
    regex: ConstraintText | None = Field(
        default=None, description="The completion as a whole matches this regular expression (Rust's syntax)."
    )
    grammar: ConstraintText | None = Field(
        default=None,
        description="The completion follows this grammar in Lark's notation, from the rule start.",
    )

    @model_validator(mode="after")
    def _check_constraints(self) -> Self:
        if sum(one is not None for one in (self.json_schema, self.regex, self.grammar)) > 1:
            raise ValueError("set one of json_schema, regex, grammar")
        return self


class BeamConfig(DecodingConfig):
    """Beam search for the likeliest completion; in groups, for completions that differ."""

    n_beams: int = Field(default=4, ge=1, le=1000, description="Beams of the search; 1: greedy.")
    length_penalty: float = Field(
        default=1.0,
        ge=-10.0,
        le=10.0,
        description="The score of a completion is its log-probability / "
        "tokens ** length_penalty; 0: no length normalization.",
    )
    stop_when: StopWhen = Field(
        default="unlikely",
        description="When n_beams completions are finished, stop: when the best open one scores worse "
        "(unlikely), at once (full), or when no open one can still win (impossible).",
    )
    n_beam_groups: int = Field(
        default=1, ge=1, le=1000, description="Groups into which the beams are split, which differ."
    )
    diversity_penalty: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        description="Subtract this from a token's score for every beam of an earlier group that takes it now.",
    )

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        if self.n_beams % self.n_beam_groups:
            raise ValueError(
                f"n_beams = {self.n_beams} is no multiple of n_beam_groups = {self.n_beam_groups}"
            )
        if self.diversity_penalty and self.n_beam_groups == 1:
            raise ValueError("diversity_penalty needs n_beam_groups over 1")
        return self


class ContrastiveConfig(DecodingConfig):
    """Contrastive search (Su et al. 2022): the likely token that is least like what was read before."""

    penalty_alpha: float = Field(
        default=0.6, ge=0.0, le=1.0, description="Weight of the likeness to earlier tokens; 0: greedy."
    )
    top_k: int = Field(default=4, ge=1, le=1000, description="How many of the likeliest tokens compete.")


class PenaltySettings(TypedDict, total=False):
    """Keyword arguments of every way of decoding; the fields of `DecodingConfig`."""

    logit_bias: Mapping[int | str, float] | Mapping[int, float] | Mapping[str, float]
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    no_repeat_ngram_size: int | None
    min_new_tokens: int | None
    max_new_tokens: int
    when_full: WhenFull
    cache_dtype: CacheDtype


class SamplingSettings(PenaltySettings, total=False):
    """Keyword arguments of sampling; the fields of `SamplingConfig`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    seed: int | None
    n: int
    log_probabilities: int | None
    stop: Sequence[str]
    json_schema: Mapping[str, Any] | bool | str | None
    regex: str | None
    grammar: str | None
    draft: Any
    """A smaller `Model` with the same vocabulary, for speculative decoding."""
    prompt_lookup: int
    """Look up to so many tokens up in the text so far, for speculative decoding without a draft model."""


class BeamSettings(PenaltySettings, total=False):
    """Keyword arguments of beam search; the fields of `BeamConfig`."""

    n_beams: int
    length_penalty: float
    stop_when: StopWhen
    n_beam_groups: int
    diversity_penalty: float


class DecodingSettings(SamplingSettings, BeamSettings, total=False):
    """Keyword arguments of every way of decoding; `decoding_method` tells which way they choose."""

    penalty_alpha: float


DecodingMethod = SamplingConfig | BeamConfig | ContrastiveConfig
_NAMES: Mapping[type[DecodingConfig], str] = {
    SamplingConfig: "sampling",
    BeamConfig: "beam search",
    ContrastiveConfig: "contrastive search",
}


def decoding_method(
    settings: Mapping[str, Any], published: Mapping[str, Any], where: str = "settings"
) -> DecodingMethod:
    """The way of decoding that `settings` choose, over a publisher's: beam search with a field that only it has,
    contrastive search with `penalty_alpha`, else the publisher's way if it has all of these fields, else sampling.

    `n_beams` = 1 alone is no beam search. Raises `UserError` for a setting that the chosen way does not have.
    """
    only_beams = set(BeamConfig.model_fields) - set(SamplingConfig.model_fields)
    if settings.get("n_beams") == 1 and not (set(settings) & only_beams) - {"n_beams"}:
        settings = {name: value for name, value in settings.items() if name != "n_beams"}
        published = {name: value for name, value in published.items() if name not in only_beams}
    cause = next((name for name in settings if name in only_beams or name == "penalty_alpha"), None)
    kind: type[SamplingConfig] | type[BeamConfig] | type[ContrastiveConfig] = SamplingConfig
    if cause is not None:
        kind = BeamConfig if cause in only_beams else ContrastiveConfig
    elif published.get("n_beams", 1) > 1 and set(settings) <= set(BeamConfig.model_fields):
        kind = BeamConfig
    elif "penalty_alpha" in published and set(settings) <= set(ContrastiveConfig.model_fields):
        kind = ContrastiveConfig
    for name in settings:
        owner = next((one for one in _NAMES if name in one.model_fields), None)
        if owner is not None and name not in kind.model_fields:
            raise UserError(
                f"{where}: {name} is a setting of {_NAMES[owner]}, and {cause} chooses {_NAMES[kind]}",
                "leave out one of them",
            )
    groups = (
        ("n_beam_groups", "diversity_penalty") if "n_beams" in settings else ()
    )  # of the publisher's beams
    defaults = {k: v for k, v in published.items() if k in kind.model_fields and k not in groups}
    return kind.parse({**defaults, **settings}, where)


class ChatConfig(Config):
    """A conversation: its system prompt, its sampling, and what happens when the context window is full."""

    system: str = Field(default="", description="The system prompt.")
    when_full: WhenFull = Field(
        default="drop_oldest",
        description="With a full context window: drop the oldest turns with a notice, or refuse with an error. It replaces"
        " what `sampling` has.",
    )
    sampling: SamplingConfig = Field(
        default_factory=SamplingConfig, description="Sampling settings of the answers."
    )
