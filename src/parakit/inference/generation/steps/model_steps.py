"""`prefill` and `decode_step`: a model and a contiguous cache, one pass further.

Prompts of any lengths share one pass: each is padded on the right, where causal attention cannot look, and the padding leaves
the cache before the first step.

Shapes: B rows, T tokens of the longest prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeGuard

import torch

from parakit.inference.batching import pad_rows
from parakit.inference.cache_dtype import contiguous_cache_dtype
from parakit.inference.config import CacheDtype
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.steps.native_step import native_step
from parakit.inference.generation.steps.static_step import StaticStep, has_static_step
from parakit.model.config import DecoderConfig
from parakit.model.heads import LanguageModel
from parakit.model.quantized import weight_like


class NextTokenModel(Protocol):
    """What decoding needs of a model: a `LanguageModel`, or the decoder of an encoder-decoder with its sources."""

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
        """Switch dropout on or off."""
        ...


@torch.inference_mode()
def prefill(model: NextTokenModel, cache: KVCache, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Run each row's new tokens (at least one) through the model in one pass; logits (B, V) after each row's last."""
    if (native := native_step(model)) is not None:
        return native.prefill(cache, prompts)
    prompts = cache.to_run(prompts)
    lengths = [len(prompt) for prompt in prompts]
    assert min(lengths) > 0, "an empty prompt has no last token"
    before, longest = list(cache.lengths), max(lengths)
    input_ids, _ = pad_rows(prompts, cache.keys[0].device)  # (B, T)
    position_ids = cache.position_ids(longest)
    if cache.switches_angles:  # by a row's last position, which is not that of its padding
        last_position = [old + new - 1 for old, new in zip(before, lengths, strict=True)]
        position_ids = position_ids.minimum(torch.tensor(last_position, device=input_ids.device)[:, None])
    cache.expect(lengths)
    hidden = model.hidden(
        input_ids,
        position_ids=position_ids,
        attention_mask=cache.attention_mask(longest),
        cache=cache,
    )
    cache.truncate([old + new for old, new in zip(before, lengths, strict=True)])
    last = torch.tensor(lengths, device=input_ids.device) - 1
    return model.logits(hidden[torch.arange(len(lengths), device=input_ids.device), last])


@torch.inference_mode()
def decode_step(model: NextTokenModel, cache: KVCache, token_ids: torch.Tensor) -> torch.Tensor:
    """Run one new token per row, (B,), through the model; logits (B, V) of the token after it."""
    if cache.switches_angles:
        return prefill(model, cache, token_ids[:, None].tolist())
    hidden = model.hidden(
        token_ids[:, None],
        position_ids=cache.position_ids(1),
        attention_mask=cache.attention_mask(1),
        cache=cache,
    )
    return model.logits(hidden[:, 0])


def make_decode_step(model: NextTokenModel) -> Callable[[KVCache, torch.Tensor], torch.Tensor]:
    """`decode_step` for this model: by the compiled kernels where they compute it, on a GPU as recorded graphs."""
    eager = partial(decode_step, model)
    if records_graphs(model):
        return StaticStep(model, eager)
    return native_step(model) or eager


def records_graphs(model: object) -> TypeGuard[LanguageModel]:
    """Whether the steps of this model are recorded and replayed by a GPU."""
    return has_static_step(model) and weight_like(model.lm_head).device.type == "cuda"


def allocate_cache(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    cache_dtype: CacheDtype = "auto",
) -> KVCache:
    """An empty cache that holds these prompts and their completions."""
    like = weight_like(model.lm_head)
    capacity = min(max(len(prompt) for prompt in prompts) + max_new_tokens, model.config.max_seq_len)
    dtype = contiguous_cache_dtype(model, cache_dtype)
    return KVCache(model.config, len(prompts), capacity, like.device, dtype, like.dtype)
