"""Decoding: prompts go in as ids, completions come out as ids.

Two pure steps, `prefill` and `decode_step`, move a model and its cache on; a `Decoding` joins them with a
sampler for a batch in flight. Prompts of any lengths share one pass: each is padded on the right, where
causal attention cannot look, and its padding is taken back before the first step. Rows that finish leave
the batch at once. Greedy tokens are the same alone, batched or streamed.

Shapes: B rows, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import padded, rows_by_length
from parakit.inference.capabilities import require
from parakit.inference.config import BeamConfig, SamplingConfig
from parakit.inference.generation.fused_step import FusedStep, can_fuse
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.sampling import Sampler, request_seeds
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel

MICRO_BATCH_SIZE = 64
STEPS_THAT_PAY_FUSING = 4


class NextTokenModel(Protocol):
    """What decoding needs of a model: `LanguageModel` has it, and the target side of an encoder-decoder."""

    config: DecoderConfig
    lm_head: torch.nn.Linear
    training: bool

    def hidden(self, input_ids: torch.Tensor, *, cache: KVCache, **context: Any) -> torch.Tensor:
        """The vectors (B, T, d_model) of new tokens; `context` as for `Stack.forward`."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Vectors (..., d_model) to logits (..., V)."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Dropout on or off."""
        ...


class StopCheck(Protocol):
    """A reason to stop that ids alone do not tell, such as a stop string.

    Only rows whose newest token is in `suspects` (all rows when it is None) are asked `confirms`.
    """

    suspects: Collection[int] | None

    def confirms(self, token_ids: Sequence[int]) -> bool:
        """Whether a completion made of `token_ids` is over."""
        ...


@torch.inference_mode()
def prefill(model: NextTokenModel, cache: KVCache, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Run each row's new tokens (none may be empty) through the model in one pass; logits (B, V) after
    each row's last.
    """
    lengths = [len(prompt) for prompt in prompts]
    assert min(lengths) > 0, "an empty prompt has no last token to go on from"
    before, longest = list(cache.lengths), max(lengths)
    input_ids, _ = padded(prompts, cache.keys[0].device)  # (B, T)
    hidden = model.hidden(
        input_ids,
        position_ids=cache.position_ids(longest),
        attention_mask=cache.attention_mask(longest),
        cache=cache,
    )
    cache.truncate([old + new for old, new in zip(before, lengths, strict=True)])
    last = torch.tensor(lengths, device=input_ids.device) - 1
    return model.logits(hidden[torch.arange(len(lengths), device=input_ids.device), last])


@torch.inference_mode()
def decode_step(model: NextTokenModel, cache: KVCache, token_ids: torch.Tensor) -> torch.Tensor:
    """Run one new token per row, (B,), through the model; logits (B, V) of the token after it."""
    hidden = model.hidden(
        token_ids[:, None],
        position_ids=cache.position_ids(1),
        attention_mask=cache.attention_mask(1),
        cache=cache,
    )
    return model.logits(hidden[:, 0])


def step_of(model: NextTokenModel, n_steps: int) -> Callable[[KVCache, torch.Tensor], torch.Tensor]:
    """`decode_step` for this model, fused where it can be and `n_steps` pay for it."""
    if n_steps >= STEPS_THAT_PAY_FUSING and can_fuse(model):
        return FusedStep(model)
    return partial(decode_step, model)


def cache_for(model: NextTokenModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> KVCache:
    """An empty cache with room for these prompts and their completions."""
    weight = model.lm_head.weight
    capacity = min(max(len(prompt) for prompt in prompts) + max_new_tokens, model.config.max_seq_len)
    return KVCache(model.config, len(prompts), capacity, weight.device, weight.dtype)


class Decoding:
    """A batch in flight. `step` gives each row's next token; `keep` lets finished rows go. Prompts that are equal are
    read once, and their cache is copied.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: NextTokenModel,
        prompts: Sequence[Sequence[int]],
        config: SamplingConfig,
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
    ) -> None:
        weight = model.lm_head.weight
        self.next_logits = step_of(model, max_new_tokens)
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        different: Sequence[Sequence[int]] = list(places)
        if not isinstance(model, LanguageModel):  # equal beginnings may follow sources that differ
            different = prompts
        self.cache = cache_for(model, different, max_new_tokens)
        self.sampler = Sampler(
            config,
            prompts,
            seeds,
            max_new_tokens=max_new_tokens,
            vocab_size=model.config.vocab_size,
            device=weight.device,
        )
        self.logits: torch.Tensor | None = prefill(model, self.cache, different)
        if len(different) < len(prompts):
            self.cache.keep(rows)
            self.logits = self.logits[torch.tensor(rows, device=weight.device)]
        self.token_ids = torch.empty(0)

    @torch.inference_mode()
    def step(self) -> torch.Tensor:
        """Choose every row's next token; token ids (B,)."""
        if self.logits is None:
            self.logits = self.next_logits(self.cache, self.token_ids)
        self.token_ids, self.logits = self.sampler.choose(self.logits), None
        return self.token_ids

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        index = torch.tensor(rows, device=self.token_ids.device)
        self.cache.keep(rows)
        self.sampler.keep(index)
        self.token_ids = self.token_ids[index]


def generate_ids(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seeds: Sequence[int] | None = None,
    stop_check: StopCheck | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[list[int]]:
    """Complete prompts of any lengths; one list of new ids per prompt, in the order of the prompts.

    A completion ends with a stop id (which is kept), when `stop_check` confirms, after
    `config.max_new_tokens`, or at the model's `max_seq_len`. Prompt i is sampled with `seeds[i]`, or with
    one derived from (config.seed, i). An empty prompt, one over `max_seq_len`, or a model that is no
    language model is a `UserError`.
    """
    require(model, "generate")
    for prompt in prompts:
        check_prompt(len(prompt), model.config.max_seq_len)
    seeds = request_seeds(config.seed, len(prompts)) if seeds is None else seeds
    completions: list[list[int]] = [[] for _ in prompts]
    with evaluation_mode(model):
        for members in rows_by_length(prompts, micro_batch_size):
            parts = _complete(
                model,
                [prompts[i] for i in members],
                config,
                stop_ids,
                [seeds[i] for i in members],
                stop_check,
            )
            for i, part in zip(members, parts, strict=True):
                completions[i] = part
    return completions


def stream_ids(
    model: NextTokenModel,
    prompt: Sequence[int],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seed: int | None = None,
) -> Generator[int, None, None]:
    """Complete one prompt token by token: the same ids as `generate_ids`, each as soon as it is known."""
    require(model, "generate")
    check_prompt(len(prompt), model.config.max_seq_len)
    seed = request_seeds(config.seed, 1)[0] if seed is None else seed
    n_new = room(len(prompt), config, model.config.max_seq_len)
    with evaluation_mode(model):
        if n_new:
            decoding = Decoding(model, [prompt], config, [seed], max_new_tokens=n_new)
        for _ in range(n_new):
            token_id = int(decoding.step())
            yield token_id
            if token_id in stop_ids:
                return


def check_prompt(n_prompt_tokens: int, max_seq_len: int) -> None:
    """Refuse a prompt that the context window cannot hold, or that is empty."""
    if n_prompt_tokens > max_seq_len:
        raise UserError(
            f"the prompt has {n_prompt_tokens} tokens, and the model's context window holds {max_seq_len}",
            "shorten the prompt, or use a model with a larger max_seq_len",
        )
    if n_prompt_tokens == 0:
        raise UserError("the prompt has no tokens", "give some text to go on from")


def room(n_prompt_tokens: int, config: SamplingConfig | BeamConfig, max_seq_len: int) -> int:
    """How many tokens a completion may have: prompt and completion share the context window."""
    return min(config.max_new_tokens, max_seq_len - n_prompt_tokens)


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module | NextTokenModel) -> Iterator[None]:
    """Dropout off for the block, whatever the model is being used for outside."""
    was_training = model.training
    if was_training:
        model.train(False)
    try:
        yield
    finally:
        if was_training:
            model.train()


@dataclass
class _Row:
    """A prompt in flight: its place in the answer, its limit, its tokens so far."""

    place: int
    limit: int
    token_ids: list[int]


def _complete(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int],
    seeds: Sequence[int],
    stop_check: StopCheck | None,
) -> list[list[int]]:
    """One batch from prefill to the last finished row."""
    limits = [room(len(prompt), config, model.config.max_seq_len) for prompt in prompts]
    completions: list[list[int]] = [[] for _ in prompts]
    rows = [_Row(place, limit, completions[place]) for place, limit in enumerate(limits) if limit > 0]
    if not rows:
        return completions
    decoding = Decoding(
        model,
        [prompts[row.place] for row in rows],
        config,
        [seeds[row.place] for row in rows],
        max_new_tokens=max(limits),
    )
    while True:
        newest = decoding.step().tolist()  # the step's only wait for the device
        for row, token_id in zip(rows, newest, strict=True):
            row.token_ids.append(token_id)
        staying = [
            i
            for i, (row, token_id) in enumerate(zip(rows, newest, strict=True))
            if not (
                token_id in stop_ids
                or len(row.token_ids) >= row.limit
                or (stop_check is not None and _confirmed(stop_check, token_id, row.token_ids))
            )
        ]
        if not staying:
            return completions
        if len(staying) < len(rows):
            order = _compacted(staying)
            decoding.keep(order)
            rows = [rows[i] for i in order]


def _confirmed(stop_check: StopCheck, token_id: int, token_ids: Sequence[int]) -> bool:
    suspects = stop_check.suspects
    return (suspects is None or token_id in suspects) and stop_check.confirms(token_ids)


def _compacted(staying: Sequence[int]) -> list[int]:
    """An order of the rows that stay (ascending) in which as many as possible keep their place: holes are
    filled from the end.
    """
    n = len(staying)
    in_place, movers = {row for row in staying if row < n}, [row for row in staying if row >= n]
    return [row if row in in_place else movers.pop() for row in range(n)]
