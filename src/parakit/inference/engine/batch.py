"""Many prompts at once, or one as a stream: on an engine of their own, of which nothing stays in memory afterwards; or, for
a stream, on one that stays.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from parakit.inference.batching import evaluation_mode
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.config import EngineConfig
from parakit.inference.engine.engine import Engine
from parakit.inference.engine.requests import Request, RequestHandle, StopCheck
from parakit.inference.generation.completion import max_completion
from parakit.inference.generation.constraints import Constraint
from parakit.inference.generation.rules import GenerationRules
from parakit.inference.generation.sampling import Choice
from parakit.inference.native_forward import can_run_natively
from parakit.model.heads import LanguageModel

PAGE_SIZE = 64  # of the compiled kernels; PyTorch gathers pages, and whole rows are cheaper there
STEP_TOKENS = 4096
MEMORY_SHARE = 0.8


def complete_prompts(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int],
    *,
    seeds: Sequence[int],
    stop_check: StopCheck | None,
    max_rows: int,
    rules: GenerationRules | None,
    constraints: Sequence[Constraint | None],
    keep_hidden: bool = False,
) -> list[list[Choice]]:
    """The new tokens of each prompt, sampled with `seeds[i]`; equal prompts are computed once. See
    `generation.decoding.generate_choices`. The error of one prompt is the call's.
    """
    if not prompts:
        return []
    groups: dict[tuple[tuple[int, ...], Constraint | None], list[int]] = {}
    for i, (prompt, constraint) in enumerate(zip(prompts, constraints, strict=True)):
        groups.setdefault((tuple(prompt), constraint), []).append(i)
    engine = one_time_engine(model, prompts, config, min(max_rows, len(prompts)))
    sampling = _without_texts(config)
    handles: list[tuple[list[int], RequestHandle]] = []
    for (prompt_ids, constraint), members in groups.items():
        request = Request(
            token_ids=prompt_ids,
            sampling=sampling,
            n=len(members),
            seed=[seeds[i] for i in members],
            stop_ids=stop_ids,
            stop_check=stop_check,
            rules=rules,
            constraint=None if constraint is None else constraint.start,
            keep_hidden=keep_hidden,
        )
        handles.append((members, engine.submit(request)))
    with evaluation_mode(model):
        while engine.step() and not engine.n_failed:
            pass
    completions: list[list[Choice]] = [[] for _ in prompts]
    for members, handle in handles:
        if handle.error is not None:
            raise handle.error
        for i, row in zip(members, handle.rows, strict=True):
            completions[i] = row.choices
    return completions


def stream_prompt(
    model: LanguageModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    stop_ids: Collection[int],
    *,
    seed: int | None,
    rules: GenerationRules | None,
    constraint: Constraint | None,
    engine: Engine | None = None,
) -> Generator[Choice, None, None]:
    """`complete_prompts` for one prompt, each token as soon as it is chosen. What an `engine` of this model has in its cache
    is not computed again.
    """
    if engine is None:
        engine = one_time_engine(model, [prompt], config, 1)
    request = Request(
        token_ids=prompt,
        sampling=_without_texts(config),
        n=1,
        seed=seed,
        stop_ids=stop_ids,
        rules=rules,
        constraint=None if constraint is None else constraint.start,
    )
    return engine.choices(request)


def one_time_engine(
    model: LanguageModel, prompts: Sequence[Sequence[int]], config: SamplingConfig, max_rows: int
) -> Engine:
    """An engine whose cache is as large as these prompts and their completions can need."""
    window = model.config.max_seq_len
    longest = max(len(prompt) + max_completion(len(prompt), config, window) for prompt in prompts)
    is_native = can_run_natively(model)
    settings = EngineConfig(
        memory_share=MEMORY_SHARE,
        page_size=min(PAGE_SIZE, longest) if is_native else longest,
        share_prefixes=is_native and max_rows > 1,
        max_rows=max_rows,
        max_seq_len=longest,
        max_step_tokens=STEP_TOKENS,
        max_queue=len(prompts),
        cache_dtype=config.cache_dtype,
    )
    return Engine(model, config=settings)


def _without_texts(config: SamplingConfig) -> SamplingConfig:
    """The settings without those that need a tokenizer, which the caller has turned into ids, checks and constraints."""
    return config.replace(stop=(), json_schema=None, regex=None, grammar=None)
