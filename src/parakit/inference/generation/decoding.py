"""Decoding: prompts as ids in, completions as ids out.

Decoders run on an `Engine` made for the call. Encoder-decoders, and decoders whose steps a GPU replays, run on a contiguous
cache: a `DecodeState` is a batch of them in flight with its samplers. Finished rows leave the batch at once. Greedy tokens are
the same alone, batched or streamed.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import CacheDtype, DecodingConfig, SamplingConfig
from parakit.inference.engine.batch import complete_prompts, stream_prompt
from parakit.inference.engine.engine import Engine
from parakit.inference.engine.requests import StopCheck
from parakit.inference.generation.completion import check_prompt, max_completion
from parakit.inference.generation.constraints import Constraint
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.rules import GenerationRules, TokenHistory
from parakit.inference.generation.sampling import Choice, RequestSampler, choose_tokens, request_seeds
from parakit.inference.generation.steps.model_steps import (
    NextTokenModel,
    allocate_cache,
    make_decode_step,
    prefill,
    records_graphs,
)
from parakit.model.heads import LanguageModel
from parakit.model.quantized import weight_like


def runs_on_engine(model: object) -> TypeGuard[LanguageModel]:
    """Whether completions run on an engine of their own: of decoders, but where a GPU replays recorded steps, which need a
    contiguous cache.
    """
    return isinstance(model, LanguageModel) and not records_graphs(model)


class DecodeState:
    """A batch in flight: `step` chooses each row's next token, `select` drops finished rows.

    `logits` (B, V) are those of the first tokens, from `prefill` into `cache`.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: NextTokenModel,
        cache: KVCache,
        logits: torch.Tensor,
        prompts: Sequence[Sequence[int]],
        config: SamplingConfig,
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        rules: GenerationRules | None = None,
        stop_ids: Collection[int] = (),
        constraints: Sequence[Constraint | None] | None = None,
    ) -> None:
        self.next_logits = make_decode_step(model)
        self.cache, self.device = cache, weight_like(model.lm_head).device
        sources = getattr(model, "sources", prompts)
        constraints = constraints or [None] * len(prompts)
        self.samplers = [
            RequestSampler(
                config,
                prompt,
                seed,
                rules,
                max_completion(len(prompt), config, model.config.max_seq_len),
                None if constraint is None else constraint.start(),
                source=source,
                stop_ids=stop_ids,
            )
            for prompt, seed, source, constraint in zip(prompts, seeds, sources, constraints, strict=True)
        ]
        self.logits: torch.Tensor | None = logits
        self.token_ids: list[int] = []

    @torch.inference_mode()
    def step(self) -> list[Choice]:
        """Choose every row's next token. Raises `UserError` where a row has none."""
        if self.logits is None:
            newest = torch.tensor(self.token_ids, device=self.device)
            self.logits = self.next_logits(self.cache, newest)
        choices, self.logits = choose_tokens(self.samplers, self.logits), None
        self.token_ids = [choice.token_id for choice in choices]
        if error := next((choice.error for choice in choices if choice.error), None):
            raise error
        return choices

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes the former row `rows[i]`."""
        self.cache.select(rows)
        self.samplers = [self.samplers[row] for row in rows]
        self.token_ids = [self.token_ids[row] for row in rows]


def generate_ids(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seeds: Sequence[int] | None = None,
    stop_check: StopCheck | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    rules: GenerationRules | None = None,
) -> list[list[int]]:
    """The ids of `generate_choices`."""
    completions = generate_choices(
        model,
        prompts,
        config,
        stop_ids,
        seeds=seeds,
        stop_check=stop_check,
        micro_batch_size=micro_batch_size,
        rules=rules,
    )
    return [[choice.token_id for choice in completion] for completion in completions]


def generate_choices(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seeds: Sequence[int] | None = None,
    stop_check: StopCheck | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    rules: GenerationRules | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    keep_hidden: bool = False,
) -> list[list[Choice]]:
    """Complete prompts of any lengths; one list of new tokens per prompt, in the order of the prompts.

    A completion ends with a stop id (which is included), when `stop_check` confirms, after `config.max_new_tokens`, or
    at the model's `max_seq_len`. Prompt i is sampled with `seeds[i]`, or with a seed derived from (config.seed, i). Equal
    prompts are read once. `config.n` does not count here: repeat a prompt, with `completion_seeds`. `rules` are the
    publisher's; None: the model's own probabilities decide. `constraints`: one for each prompt, or None. `keep_hidden`:
    where an engine runs, every choice has the vector before it. Raises `UserError` for an empty prompt, one over
    `max_seq_len`, and a model that generates no text.
    """
    require_capability(model, "generate")
    for prompt in prompts:
        check_prompt(len(prompt), model.config.max_seq_len)
    seeds = request_seeds(config.seed, len(prompts)) if seeds is None else seeds
    constraints = constraints or [None] * len(prompts)
    if runs_on_engine(model):
        return complete_prompts(
            model,
            prompts,
            config,
            stop_ids,
            seeds=seeds,
            stop_check=stop_check,
            max_rows=micro_batch_size,
            rules=rules,
            constraints=constraints,
            keep_hidden=keep_hidden,
        )
    completions: list[list[Choice]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for rows in rows_by_length(prompts, micro_batch_size):
            batch = _generate_batch(
                model,
                [prompts[i] for i in rows],
                config,
                stop_ids,
                [seeds[i] for i in rows],
                stop_check,
                rules,
                [constraints[i] for i in rows],
            )
            for i, completion in zip(rows, batch, strict=True):
                completions[i] = completion
    return completions


def stream_choices(
    model: NextTokenModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seed: int | None = None,
    rules: GenerationRules | None = None,
    constraint: Constraint | None = None,
    engine: Engine | None = None,
) -> Generator[Choice, None, None]:
    """Complete one prompt token by token: the tokens of `generate_choices`, each as soon as it is chosen. An `engine` of this
    model reads only what it has not read before.
    """
    require_capability(model, "generate")
    check_prompt(len(prompt), model.config.max_seq_len)
    seed = request_seeds(config.seed, 1)[0] if seed is None else seed
    limit = max_completion(len(prompt), config, model.config.max_seq_len)
    if runs_on_engine(model):
        return stream_prompt(
            model, prompt, config, stop_ids, seed=seed, rules=rules, constraint=constraint, engine=engine
        )
    settings = {
        "max_new_tokens": limit,
        "rules": rules,
        "stop_ids": stop_ids,
        "constraints": [constraint],
    }
    return _stream_contiguous(model, prompt, config, seed, settings)


def _stream_contiguous(
    model: NextTokenModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    seed: int,
    settings: Mapping[str, Any],
) -> Generator[Choice, None, None]:
    """`stream_choices` without an engine; `settings` as for `DecodeState`."""
    limit, stop_ids = settings["max_new_tokens"], settings["stop_ids"]
    if limit == 0:
        return
    with evaluation_mode(model):
        cache = allocate_cache(model, [prompt], limit, config.cache_dtype)
        logits = prefill(model, cache, [prompt])
        state = DecodeState(model, cache, logits, [prompt], config, [seed], **settings)
        for _ in range(limit):
            [choice] = state.step()
            yield choice
            if choice.token_id in stop_ids:
                return


def stream_ids(
    model: NextTokenModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seed: int | None = None,
    rules: GenerationRules | None = None,
) -> Generator[int, None, None]:
    """The ids of `stream_choices`."""
    for choice in stream_choices(model, prompt, config, stop_ids, seed=seed, rules=rules):
        yield choice.token_id


def token_histories(
    model: NextTokenModel, prompts: Sequence[Sequence[int]], config: DecodingConfig
) -> list[TokenHistory]:
    """A history for each prompt; what the encoder read where the model has sources, else the prompt."""
    sources = getattr(model, "sources", prompts)
    return [
        TokenHistory(
            list(prompt), len(prompt), max_completion(len(prompt), config, model.config.max_seq_len), source
        )
        for prompt, source in zip(prompts, sources, strict=True)
    ]


@dataclass
class _Row:
    """A prompt in flight: its index in the batch, its limit, its new tokens so far."""

    index: int
    limit: int
    choices: list[Choice]


def _generate_batch(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int],
    seeds: Sequence[int],
    stop_check: StopCheck | None,
    rules: GenerationRules | None,
    constraints: Sequence[Constraint | None],
) -> list[list[Choice]]:
    """One batch from prefill to the last finished row."""
    limits = [max_completion(len(prompt), config, model.config.max_seq_len) for prompt in prompts]
    completions: list[list[Choice]] = [[] for _ in prompts]
    rows = [_Row(i, limit, completions[i]) for i, limit in enumerate(limits) if limit > 0]
    if not rows:
        return completions
    prompts, seeds = [prompts[row.index] for row in rows], [seeds[row.index] for row in rows]
    cache, logits = _prefill_distinct(model, prompts, max(limits), config.cache_dtype)
    state = DecodeState(
        model,
        cache,
        logits,
        prompts,
        config,
        seeds,
        max_new_tokens=max(limits),
        rules=rules,
        stop_ids=stop_ids,
        constraints=[constraints[row.index] for row in rows],
    )
    while True:
        newest = state.step()  # the step's only wait for the device
        for row, choice in zip(rows, newest, strict=True):
            row.choices.append(choice)
        unfinished = [
            i
            for i, row in enumerate(rows)
            if not (
                row.choices[-1].token_id in stop_ids
                or len(row.choices) >= row.limit
                or (stop_check is not None and _is_stopped(stop_check, row.choices))
            )
        ]
        if not unfinished:
            return completions
        if len(unfinished) < len(rows):
            order = _compaction(unfinished)
            state.select(order)
            rows = [rows[i] for i in order]


@torch.inference_mode()
def _prefill_distinct(
    model: NextTokenModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, cache_dtype: CacheDtype
) -> tuple[KVCache, torch.Tensor]:
    """Cache and logits (B, V) after `prefill`; equal prompts are computed once and their cache rows copied."""
    indices: dict[tuple[int, ...], int] = {}
    rows = [indices.setdefault(tuple(prompt), len(indices)) for prompt in prompts]
    distinct: Sequence[Sequence[int]] = list(indices)
    if not isinstance(model, LanguageModel):  # equal prompts may belong to different sources
        distinct = prompts
    cache = allocate_cache(model, distinct, max_new_tokens, cache_dtype)
    logits = prefill(model, cache, distinct)
    if len(distinct) < len(prompts):
        cache.select(rows)
        logits = logits[torch.tensor(rows, device=logits.device)]
    return cache, logits


def _is_stopped(stop_check: StopCheck, choices: Sequence[Choice]) -> bool:
    suspects = stop_check.suspects
    return (suspects is None or choices[-1].token_id in suspects) and stop_check.confirms(
        [choice.token_id for choice in choices]
    )


def _compaction(unfinished: Sequence[int]) -> list[int]:
    """An order of the unfinished rows (ascending) in which most keep their index: holes are filled from the end."""
    n = len(unfinished)
    in_place, movers = {row for row in unfinished if row < n}, [row for row in unfinished if row >= n]
    return [row if row in in_place else movers.pop() for row in range(n)]
