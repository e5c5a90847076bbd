"""How fast a decoder reads prompts and writes tokens on this machine, and the floor: how fast memory lets it be.

At batch 1 every new token reads each weight and each cached key and value once, so a token cannot take less time than
their bytes take to pass through memory (Pope et al. 2022, "Efficiently scaling transformer inference", section 3). The
bandwidth is measured here, not taken from a data sheet.

Shapes: B rows, T tokens of a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.steps.model_steps import allocate_cache, make_decode_step, prefill
from parakit.model.heads import LanguageModel
from parakit.model.kernels import read_bandwidth
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.quantized import weight_like

BANDWIDTH_BYTES = 256 * 2**20  # several times larger than the caches of a processor
N_BANDWIDTH_RUNS = 5
NOT_READ = ("token_embedding", "positions", "token_types")  # looked up, one row a token

MakeStep = Callable[[LanguageModel], Callable[[KVCache, torch.Tensor], torch.Tensor]]


@dataclass(frozen=True)
class Speed:
    """One shape of work: medians over the repeats, in tokens per second of all rows together."""

    n_rows: int
    n_prompt_tokens: int
    n_new_tokens: int
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    bytes_per_step: int
    """Of weights and of the cache, at the middle of the completion."""
    floor_tokens_per_second: float
    """What `bytes_per_step` allow at the measured bandwidth."""

    @property
    def share_of_floor(self) -> float:
        """Decoding speed over the floor; above 1 where weights stay in the processor's caches."""
        return self.decode_tokens_per_second / self.floor_tokens_per_second


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second that the device reads from memory: the best of some passes over 256 MiB, by the compiled kernels
    where they are, else by sums.
    """
    if device.type == "cpu" and (measured := read_bandwidth(BANDWIDTH_BYTES, torch.get_num_threads())):
        return measured
    values = torch.ones(BANDWIDTH_BYTES // 4, device=device)
    return values.nbytes / min(_timed(values.sum, device) for _ in range(N_BANDWIDTH_RUNS))


def weight_bytes(model: LanguageModel) -> int:
    """Bytes of weights that one new token reads: all but looked-up tables and inactive experts."""
    config, seen, total = model.config, set(), 0.0
    experts = {
        tensor.data_ptr()
        for module in model.modules()
        if isinstance(module, MixtureOfExperts)
        for tensor in module.parameters(recurse=False)
    }
    for name, tensor in model.state_dict(keep_vars=True).items():
        is_looked_up = any(part in NOT_READ for part in name.split(".")) and not config.tie_embeddings
        if is_looked_up or tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        is_expert = tensor.data_ptr() in experts
        total += tensor.nbytes * (config.n_active_experts / config.n_experts if is_expert else 1)
    return round(total)


def cache_bytes_per_token(cache: KVCache) -> int:
    """Bytes of the keys and values of one token in all layers."""
    tensors = (*cache.keys, *cache.values)
    return sum(t.shape[1] * t.shape[3] * t.element_size() for t in tensors if t.shape[2])


def measure_speed(
    model: LanguageModel,
    *,
    n_sequences: Sequence[int] = (1,),
    prompt_lengths: Sequence[int] = (128,),
    n_new_tokens: int = 64,
    repeats: int = 3,
    bandwidth: float | None = None,
    make_step: MakeStep = make_decode_step,
) -> Iterator[Speed]:
    """Measure every number of sequences with every prompt length, on random tokens, after one unmeasured step. `make_step`:
    another way to compute the steps of a model.

    Raises `UserError` for a model that generates no text and for prompts that leave no room for the new tokens.
    """
    require_capability(model, "generate")
    limit = model.config.max_seq_len
    if max(prompt_lengths) + n_new_tokens > limit:
        raise UserError(
            f"{max(prompt_lengths)} prompt tokens and {n_new_tokens} new ones are more than the model's context"
            f" window of {limit}",
            "measure shorter prompts or fewer new tokens",
        )
    device = weight_like(model.lm_head).device
    bandwidth = bandwidth or memory_bandwidth(device)
    with evaluation_mode(model):
        _measure(model, 1, min(prompt_lengths), 1, make_step)
        for n_rows in n_sequences:
            for n_prompt in prompt_lengths:
                runs = [_measure(model, n_rows, n_prompt, n_new_tokens, make_step) for _ in range(repeats)]
                cached = n_rows * (n_prompt + n_new_tokens // 2)
                n_bytes = weight_bytes(model) + cached * runs[0][2]
                yield Speed(
                    n_rows,
                    n_prompt,
                    n_new_tokens,
                    n_rows * n_prompt / median(run[0] for run in runs),
                    n_rows * n_new_tokens / median(run[1] for run in runs),
                    n_bytes,
                    n_rows * bandwidth / n_bytes,
                )


def _measure(
    model: LanguageModel, n_rows: int, n_prompt: int, n_new_tokens: int, make_step: MakeStep
) -> tuple[float, float, int]:
    """Seconds of prefill, seconds of all decoding steps, bytes of cache per token."""
    device, vocab_size = weight_like(model.lm_head).device, model.config.vocab_size
    ids = torch.randint(
        vocab_size, (n_rows, n_prompt + n_new_tokens), generator=torch.Generator().manual_seed(0)
    )
    prompts = ids[:, :n_prompt].tolist()
    new = ids[:, n_prompt:].T.to(device)
    cache = allocate_cache(model, prompts, n_new_tokens)
    reading = _timed(lambda: prefill(model, cache, prompts), device)
    step = make_step(model)

    def decode() -> None:
        for token_ids in new:
            step(cache, token_ids)

    return reading, _timed(decode, device), cache_bytes_per_token(cache)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the work, what the device still has to do included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
