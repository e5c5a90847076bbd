"""Decoding on a GPU in bfloat16 against the bandwidth of its memory: one sequence of a 1B model, 64 of a 134M one.

Random weights: speed does not depend on their values. Steps run as recorded CUDA graphs; `eager` are the same steps without
them. Without a GPU, `--device cpu --shapes tiny` tries the program.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.registry import NO_TARGET, Figures, benchmark

SHAPES: dict[str, dict[str, int]] = {
    "1.1B": {
        "d_model": 2048,
        "n_layers": 22,
        "n_heads": 32,
        "n_kv_heads": 4,
        "d_ff": 5632,
        "vocab_size": 32_000,
    },
    "134M": {
        "d_model": 576,
        "n_layers": 30,
        "n_heads": 9,
        "n_kv_heads": 3,
        "d_ff": 1536,
        "vocab_size": 49_152,
    },
    "tiny": {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 128, "vocab_size": 512},
}
ROWS = {"1.1B": (1,), "134M": (1, 64), "tiny": (1, 4)}


@benchmark("engine_gpu", {
    "1.1B.1.share_of_floor": (">= 0.6", "decoding one sequence of a 1.1B model in bf16: share of the memory bandwidth"),
    "134M.64.decode_tokens_per_second": (">= 10000", "decoding 64 sequences of a 134M model in bf16, tokens per second"),
    "*.*.speedup_of_graphs": (NO_TARGET, "{0} parameters, {1} sequences: recorded graphs over eager steps"),
    "*.*.prefill_tokens_per_second": (NO_TARGET, "{0} parameters, {1} sequences: prompt tokens per second"),
})  # fmt: skip
def engine_gpu(
    *,
    shapes: tuple[str, ...] = ("1.1B", "134M"),
    device: str = "cuda",
    n_prompt_tokens: int = 128,
    n_new_tokens: int = 256,
    repeats: int = 3,
) -> Figures:
    """Every shape with each number of sequences."""
    import torch

    from parakit.inference import speed
    from parakit.inference.generation.steps.model_steps import decode_step

    figures: Figures = {}
    target = torch.device(device)
    bandwidth = speed.memory_bandwidth(target)
    for shape in shapes:
        model = _random_model(shape, target, n_prompt_tokens + n_new_tokens)
        figures[shape] = {}
        for n_rows in ROWS[shape]:
            measure = partial(
                speed.measure_speed,
                model,
                n_sequences=(n_rows,),
                prompt_lengths=(n_prompt_tokens,),
                n_new_tokens=n_new_tokens,
                repeats=repeats,
                bandwidth=bandwidth,
            )
            [measured] = measure()
            [eager] = measure(make_step=lambda model: partial(decode_step, model))
            figures[shape][str(n_rows)] = {
                "decode_tokens_per_second": measured.decode_tokens_per_second,
                "prefill_tokens_per_second": measured.prefill_tokens_per_second,
                "share_of_floor": measured.share_of_floor,
                "speedup_of_graphs": measured.decode_tokens_per_second / eager.decode_tokens_per_second,
            }
    return figures | {"bandwidth_bytes_per_second": bandwidth}


def _random_model(shape: str, device: Any, max_seq_len: int) -> Any:
    import torch

    from parakit.model import DecoderConfig, LanguageModel

    sizes = SHAPES[shape]
    config = DecoderConfig(
        **sizes, head_dim=sizes["d_model"] // sizes["n_heads"], max_seq_len=max_seq_len, query_key_norm=False
    )
    with torch.device(device):
        return LanguageModel(config).to(torch.bfloat16).eval()
