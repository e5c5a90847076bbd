"""Settings of the server. Imports no torch and no web framework."""

from typing import Annotated, Literal

from pydantic import Field

from parakit.inference.config import CACHE_DTYPE, CacheDtype, WhenFull
from parakit.serving.accounts.config import AccountsConfig
from parakit.serving.security.config import SecurityConfig

Preload = Literal["first", "all", "none"]
MAX_COMPLETIONS = 128  # of one prompt, as OpenAI's API allows
MAX_STOP_STRINGS = 64
MAX_TOP_LOGPROBS = 20


class ServeConfig(SecurityConfig, AccountsConfig):
    """Where the server listens, which models it holds in memory, and how many requests run at once."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="The address to listen on. The default is this machine alone.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="The port; 0: any that is free.")
    adapters: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Folders of adapters of the models; each is served as MODEL:ADAPTER."
    )
    documents: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Indexes of documents (parakit index) that /v1/answers answers from; NAME=PATH names one.",
    )
    prompts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Prompts (parakit prompts) that are served as MODEL:PROMPT: files, folders of files, or names of the"
        " library.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    model_memory: float | None = Field(
        default=None,
        gt=0.0,
        le=1e6,
        description="GiB that the weights and caches of loaded models may take together; the one that was used least"
        " recently is unloaded for another. Default: no bound.",
    )
    cache_memory: float | None = Field(
        default=None,
        gt=0.0,
        le=1e6,
        description="GiB of keys and values of each model. Default: a quarter of model_memory, else an equal share of half of"
        " the free memory.",
    )
    cache_dtype: CacheDtype = Field(default="auto", description=CACHE_DTYPE)
    preload: Preload = Field(
        default="first",
        description="Which models are loaded before the server is ready: the first, all, or none. The others are loaded"
        " when a request names them.",
    )
    max_seq_len: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Tokens of a prompt with its completion. Default: the model's context window.",
    )
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Length limit of answers for requests that set none. Default: as the publisher set, else what the"
        " context window leaves.",
    )
    when_full: WhenFull = Field(
        default="refuse",
        description="A conversation over the context window: refuse it, or drop its oldest turns and report how many.",
    )
    max_running: int = Field(
        default=32, ge=1, le=10_000, description="Completions of one model that run at once; more wait."
    )
    max_step_tokens: int = Field(
        default=512, ge=1, le=10_000_000, description="Tokens that one pass of a model computes at most."
    )
    max_waiting: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Requests of one model that may wait; one more gets 429.",
    )
    shutdown_seconds: float = Field(
        default=30.0,
        ge=0.0,
        le=86_400.0,
        description="After SIGTERM running requests have so long to finish; new ones get 503.",
    )
    studio: bool = Field(
        default=True,
        description="Serve the studio's pages at / as well; from another machine they need a key made with --studio.",
    )
    data_dir: str | None = Field(
        default=None,
        min_length=1,
        description="A folder for uploaded files and batches, which a restarted server continues. Default: a temporary one,"
        " which goes with the server.",
    )
    log_prompts: bool = Field(
        default=False, description="Write the text of prompts and answers into the log."
    )
