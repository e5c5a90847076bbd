"""What to train of a published model in a given time: all of its weights, or an adapter. Imports no torch.

A low-rank adapter learns as well as full tuning while its parameters can hold what the data teaches, about one bit for
each token that the loss counts against two bits for each parameter ("LoRA Without Regret", Schulman et al. 2025), and it
forgets less (Biderman et al. 2024). Beyond that, all weights are trained where the memory allows it.
"""

from __future__ import annotations

from typing import Literal

from parakit.common.formatting import byte_size, compact

TOKENS_PER_ADAPTER_PARAMETER = 2.0
# Weights, gradients and AdamW's two moments in float32, and a quarter of that for activations.
BYTES_PER_PARAMETER, ACTIVATIONS = 16, 1.25
SHARE_OF_MEMORY = 0.7

TuningMethod = Literal["full", "lora"]


def choose_tuning(
    n_params: int, n_adapter_params: int, n_learned: float, memory_bytes: float | None
) -> tuple[TuningMethod, str]:
    """The method, and why. `n_learned`: different tokens that the loss counts in the time; `memory_bytes`: the device's,
    None where it is unknown.
    """
    needed = n_params * BYTES_PER_PARAMETER * ACTIVATIONS
    if memory_bytes is not None and needed > SHARE_OF_MEMORY * memory_bytes:
        why = f"all weights need about {byte_size(round(needed))} of memory, and there are {byte_size(round(memory_bytes))}"
        return "lora", why
    held = TOKENS_PER_ADAPTER_PARAMETER * n_adapter_params
    amount = f"{compact(n_learned)} tokens to learn from in the time"
    adapter = f"an adapter of {compact(n_adapter_params)} parameters"
    if n_learned <= held:
        return "lora", f"{amount} fit into {adapter}, which forgets less"
    return "full", f"{amount} are more than {adapter} holds"
