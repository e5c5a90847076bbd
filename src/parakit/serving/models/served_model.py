"""A model in memory: its network and tokenizer, the engine that runs its requests, and its adapters."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

import torch

from parakit.checkpoints.adapters import load_adapter
from parakit.common.errors import UserError
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import EngineConfig
from parakit.inference.engine.engine import Engine
from parakit.inference.engine.requests import Request, RequestHandle
from parakit.inference.folder_settings import is_chat_tuned
from parakit.inference.generation.completion import prompt_ids
from parakit.inference.generation.context_window import FittedPrompt, fit_prompt, without_oldest_turns
from parakit.inference.generation.text_stream import is_byte_level
from parakit.inference.loaded_model import Model
from parakit.inference.tool_calls.reasoning import reasoning_syntax
from parakit.model import heads
from parakit.model.adapters import AdapterSet
from parakit.serving.config import ServeConfig
from parakit.serving.errors import ContextOverflow
from parakit.serving.generation.call import GenerationCall
from parakit.serving.models.locations import ModelLocation
from parakit.serving.models.tool_prompts import prompt_of, tool_constraint
from parakit.tokens.chat.template import response_prefix
from parakit.tokens.tokenizer.tokenizer import Tokenizer

GIB = 2**30
FAR_TOO_LONG = 4  # context windows


class ServedModel:
    """One loaded model. Models that generate text have an `engine`, whose steps run in a thread of its own."""

    def __init__(self, location: ModelLocation, config: ServeConfig, n_models: int = 1) -> None:
        """Load it; seconds to minutes. Raises `UserError` where the folder's files are damaged."""
        self.location, self.config, self.loaded = location, config, time.time()
        self.model = Model.load(location.path, device=config.device, dtype=config.dtype)
        _attach_adapters(self.model, location)
        self.engine: Engine | None = None
        network = self.model.network
        if isinstance(network, heads.LanguageModel):
            tokenizer, adapters = self.model.tokenizer, self.model.adapters
            self.engine = Engine(network, tokenizer, engine_config(config, n_models), adapters)
            self.engine.start()

    @property
    def name(self) -> str:
        """Under which it is served."""
        return self.location.name

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; `UserError` where it has none."""
        return self.model.tokenizer

    @property
    def max_seq_len(self) -> int:
        """Tokens of a prompt with its completion: the context window, or what the cache can hold of it."""
        window = self.model.network.config.max_seq_len
        if self.engine is None:
            return window
        cache = self.engine.cache
        pages = [group.pool.n_pages for group in cache.groups if group.window is None]
        return min(window, cache.max_seq_len, *(n * cache.page_size for n in pages))

    @property
    def memory_bytes(self) -> int:
        """Of weights and cache."""
        network = self.model.network
        tensors = {t.data_ptr(): t.nbytes for t in (*network.parameters(), *network.buffers())}
        return sum(tensors.values()) + (self.engine.cache.memory_bytes if self.engine is not None else 0)

    def require_engine(self) -> Engine:
        """The engine; `UserError`, listing what the model can do, where it generates no text."""
        require_capability(self.model.network, "generate")
        assert self.engine is not None
        return self.engine

    # --- requests
    def fit(self, call: GenerationCall, sampling: SamplingConfig) -> FittedPrompt:
        """The prompt's ids. `ContextOverflow` where it leaves no room for a token, after the policy dropped what it may."""
        self.require_engine()
        window = self.max_seq_len
        if call.token_ids is not None:
            fitted = FittedPrompt(list(call.token_ids))
            n_ids = self.model.network.config.vocab_size
            if outside := [i for i in fitted.token_ids if not 0 <= i < n_ids][:1]:
                raise UserError(
                    f"token id {outside[0]}, and the vocabulary has {n_ids} ids", "they count from 0"
                )
            if not fitted.token_ids:
                raise UserError("the prompt has no tokens", "give some text to continue")
        else:
            prompt, tools = prompt_of(call, self.tokenizer)
            if sampling.when_full != "drop_oldest":
                self._refuse_far_too_long(call, window)
                fitted = FittedPrompt(prompt_ids(self.tokenizer, prompt, tools))
            elif isinstance(prompt, str):
                fitted = fit_prompt(self.tokenizer, prompt, sampling, window)
            else:
                fitted = without_oldest_turns(self.tokenizer, prompt, sampling, window, tools)
        if len(fitted.token_ids) >= window:
            raise ContextOverflow(len(fitted.token_ids), window)
        return fitted

    def _refuse_far_too_long(self, call: GenerationCall, window: int) -> None:
        """`ContextOverflow` where the text alone has tokens for several windows: encoding megabytes takes seconds."""
        if call.prompt is not None:
            text = call.prompt
        else:
            content = call.messages[-1].get("content") if call.messages else None
            text = content.strip() if isinstance(content, str) else ""
        if len(text) > FAR_TOO_LONG * window and is_byte_level(self.tokenizer):
            n_least = len(text.encode(errors="replace")) // max(map(len, self.tokenizer.token_bytes))
            if n_least > FAR_TOO_LONG * window:
                raise ContextOverflow(n_least, window, is_least=True)

    def sampling(self, call: GenerationCall) -> SamplingConfig:
        """The request's settings over those of the server and of the publisher."""
        settings: dict[str, Any] = {"when_full": self.config.when_full}
        if call.is_prompted:  # as it was measured: the publisher's settings are not the prompt's
            settings |= {key: value for key, value in SamplingConfig() if key in self.model.published}
        if "max_new_tokens" not in self.model.published:
            settings["max_new_tokens"] = self.max_seq_len
        if self.config.max_new_tokens is not None:
            settings["max_new_tokens"] = self.config.max_new_tokens
        if call.when_full is not None:
            settings["when_full"] = call.when_full
        return self.model.sampling_config(**{**settings, **call.sampling, "n": call.n})

    def submit(
        self, call: GenerationCall, adapter: str | None, on_change: Any = None
    ) -> tuple[RequestHandle, FittedPrompt]:
        """Put a request into the engine's queue; takes milliseconds, up to seconds where a schema is compiled.

        Raises `UserError` for one that cannot run.
        """
        engine = self.require_engine()
        sampling = self.sampling(call)
        prefix = ""
        if call.messages is not None:
            prefix = response_prefix(self.tokenizer)
            reasoning_syntax(self.tokenizer)  # renders the template once: here, and not in the event loop
        constraint = tool_constraint(call, sampling, self.tokenizer, prefix)
        fitted = self.fit(call, sampling)
        if len(fitted.token_ids) + sampling.max_new_tokens > self.max_seq_len:
            sampling = sampling.replace(max_new_tokens=self.max_seq_len - len(fitted.token_ids))
        request = Request(
            token_ids=fitted.token_ids,
            sampling=sampling,
            client=call.client,
            adapter=adapter,
            constraint=None if constraint is None else constraint.start,
            response_prefix=prefix,
            on_change=on_change,
        )
        return engine.submit(request), fitted

    def n_prompt_tokens(self, call: GenerationCall) -> int:
        """The tokens of a prompt, whether or not the context window holds them."""
        prompt, tools = prompt_of(call, self.tokenizer)
        return len(prompt_ids(self.tokenizer, prompt, tools))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[Model]:
        """Within the block the engine computes nothing, so that the network can be used for something else."""
        with self.engine.paused() if self.engine is not None else contextlib.nullcontext():
            yield self.model

    def close(self) -> None:
        """Stop the engine's thread; the memory is free once nobody holds the model."""
        if self.engine is not None:
            self.engine.stop()
        self.engine = None
        gc.collect()  # a model and what computes it refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _attach_adapters(model: Model, location: ModelLocation) -> None:
    """Give a model its adapters, of which none is on."""
    if not location.adapters:
        return
    network = model.network
    device = next(network.parameters()).device
    model.adapters = AdapterSet(network)
    for name, folder in location.adapters.items():
        model.adapters.add(name, load_adapter(folder, network, location.path))
        model.adapters.use(name)
        network.to(device)
    model.adapters.use(None)
    model.chat_tuned = any(map(is_chat_tuned, [location.path, *location.adapters.values()]))


def engine_config(config: ServeConfig, n_models: int) -> EngineConfig:
    """The settings of one of `n_models` engines."""
    bound = config.cache_memory
    if bound is None and config.model_memory is not None:
        bound = config.model_memory / 4
    return EngineConfig(
        memory_bytes=None if bound is None else int(bound * GIB),
        memory_share=0.5 / max(n_models, 1),
        cache_dtype=config.cache_dtype,
        max_seq_len=config.max_seq_len,
        max_rows=config.max_running,
        max_step_tokens=config.max_step_tokens,
        max_queue=config.max_waiting,
    )
